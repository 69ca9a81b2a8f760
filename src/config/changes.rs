//! What differs between two configurations, and whether that can be applied while the process runs.
//!
//! Every struct of settings is destructured completely, so the compiler reports a new field that is
//! not handled here.

use threadtap_core::correlator::Limits;
use threadtap_core::dialect::{Order, chat};
use threadtap_core::{correlator, dialect, session};

use super::{Callers, Choice, Config, Drain, Log};
use crate::{admin, capture, delivery, intake, net, pipeline, proxy, store};

/// The keys whose values differ, as they are written in the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// The keys that a reload applies.
    pub applied: Vec<&'static str>,
    /// The keys that only a restart applies.
    pub needs_restart: Vec<&'static str>,
}

/// Compares the fields of a struct. Each field is marked `applied(key)` or `needs_restart(key)`. A
/// field is marked `apart` if it is compared separately, and `unset` if no setting sets it, or only
/// together with another one.
macro_rules! compare {
    ($changes:ident, $($type:ident)::+ { $($field:ident: $how:ident $(($key:literal))?),* $(,)? }, $old:expr, $new:expr) => {
        let (old, new) = ($old, $new);
        let $($type)::+ { $($field: _),* } = old;
        $(compare!(@$how $changes $(($key))? old.$field, new.$field);)*
    };
    (@applied $changes:ident ($key:literal) $old:expr, $new:expr) => {
        note(&mut $changes.applied, $key, &$old, &$new)
    };
    (@needs_restart $changes:ident ($key:literal) $old:expr, $new:expr) => {
        note(&mut $changes.needs_restart, $key, &$old, &$new)
    };
    (@apart $changes:ident $old:expr, $new:expr) => {};
    (@unset $changes:ident $old:expr, $new:expr) => {};
}

fn note<T: PartialEq>(keys: &mut Vec<&'static str>, key: &'static str, old: &T, new: &T) {
    // One key may set several fields.
    if old != new && !keys.contains(&key) {
        keys.push(key);
    }
}

impl Changes {
    /// Compares two configurations.
    #[must_use]
    pub fn between(old: &Config, new: &Config) -> Self {
        let mut changes = Self::default();
        changes.compare_top(old, new);
        changes.compare_net(&old.net, &new.net);
        changes.compare_proxy(&old.proxy, &new.proxy);
        changes.compare_capture(&old.capture, &new.capture);
        changes.compare_pipeline(&old.pipeline, &new.pipeline);
        changes.compare_store(&old.store, &new.store);
        changes.compare_delivery(&old.delivery, &new.delivery);
        changes
    }

    fn compare_top(&mut self, old: &Config, new: &Config) {
        compare!(
            self,
            Config {
                net: apart,
                proxy: apart,
                capture_enabled: needs_restart("capture.enabled"),
                capture: apart,
                pipeline: apart,
                store: apart,
                data_dir: apart,
                store_required: needs_restart("store.required"),
                callers: apart,
                intake: apart,
                delivery: apart,
                sinks: applied("sinks"),
                admin_listen: apart,
                admin: apart,
                drain: apart,
                log: apart,
            },
            old,
            new
        );
        // Setting a default value explicitly changes nothing.
        let directory = |config: &Config| config.data_dir.as_ref().map(|choice| choice.value().clone());
        note(&mut self.needs_restart, "data_dir", &directory(old), &directory(new));
        let address = |config: &Config| *Choice::value(&config.admin_listen);
        note(&mut self.needs_restart, "admin_listen", &address(old), &address(new));
        let key = match (&old.callers, &new.callers) {
            (Callers::Off, _) | (_, Callers::Off) => "attribution.hash_credentials",
            _ => "attribution.hash_key",
        };
        note(&mut self.applied, key, &old.callers, &new.callers);
        compare!(
            self,
            intake::Config {
                on_proxy: applied("intake.on_proxy"),
                key: applied("intake.key"),
                hold: applied("intake.hold"),
                max_held: applied("intake.max_held"),
            },
            &old.intake,
            &new.intake
        );
        compare!(self, admin::Config { token: applied("admin.token") }, &old.admin, &new.admin);
        compare!(
            self,
            Drain { delay: applied("drain.delay"), grace: applied("drain.grace") },
            &old.drain,
            &new.drain
        );
        compare!(
            self,
            Log {
                level: applied("log.level"),
                format: applied("log.format"),
                interactions: applied("log.interactions"),
            },
            &old.log,
            &new.log
        );
    }

    fn compare_net(&mut self, old: &net::Config, new: &net::Config) {
        compare!(
            self,
            net::Config {
                listen: needs_restart("listen"),
                workers: needs_restart("server.workers"),
                max_connections: needs_restart("server.max_connections"),
                first_byte_timeout: needs_restart("server.first_byte_timeout"),
                head_timeout: needs_restart("server.head_timeout"),
                max_headers: needs_restart("server.max_headers"),
                max_head_bytes: needs_restart("server.max_head"),
                max_header_list_bytes: needs_restart("server.max_header_list"),
                h2_max_streams: needs_restart("server.h2_max_streams"),
                h2_stream_window_bytes: needs_restart("server.h2_stream_window"),
                h2_connection_window_bytes: needs_restart("server.h2_connection_window"),
                h2_memory_bytes: needs_restart("server.h2_memory"),
                h2_max_pending_resets: needs_restart("server.h2_max_pending_resets"),
                h2_ping_interval: needs_restart("server.h2_ping_interval"),
                h2_ping_timeout: needs_restart("server.h2_ping_timeout"),
                half_close: needs_restart("server.half_close"),
                tcp: unset,
            },
            old,
            new
        );
    }

    fn compare_proxy(&mut self, old: &proxy::Config, new: &proxy::Config) {
        compare!(
            self,
            proxy::Config {
                upstream: needs_restart("upstream"),
                interest: unset,
                local_endpoints: unset,
                max_connections: unset,
                connect_timeout: needs_restart("proxy.connect_timeout"),
                keep_client_host: needs_restart("proxy.keep_client_host"),
                idle_timeout: needs_restart("proxy.idle_timeout"),
                max_idle: needs_restart("proxy.max_idle"),
                max_headers: needs_restart("proxy.max_headers"),
                max_head_bytes: needs_restart("proxy.max_head"),
                continue_timeout: needs_restart("proxy.continue_timeout"),
                linger_bytes: needs_restart("proxy.linger"),
                linger_timeout: needs_restart("proxy.linger_timeout"),
                finish_after_disconnect: needs_restart("proxy.finish_after_disconnect"),
                tcp: unset,
            },
            old,
            new
        );
    }

    fn compare_capture(&mut self, old: &capture::Config, new: &capture::Config) {
        compare!(
            self,
            capture::Config {
                queue: needs_restart("capture.queue"),
                budget_bytes: needs_restart("capture.budget"),
                max_body_bytes: needs_restart("capture.max_body"),
                max_prefix_bytes: needs_restart("capture.max_prefix"),
                segment_bytes: needs_restart("capture.segment"),
                segment_age: needs_restart("capture.segment_age"),
                extra_headers: unset,
            },
            old,
            new
        );
    }

    fn compare_pipeline(&mut self, old: &pipeline::Config, new: &pipeline::Config) {
        compare!(
            self,
            pipeline::Config {
                dialect: apart,
                correlation: apart,
                sessions: apart,
                max_users: needs_restart("sessions.max_users"),
                batch: unset,
                batch_bytes: unset,
                gather: unset,
                store_patience: unset,
                max_exchanges: unset,
            },
            old,
            new
        );
        compare!(
            self,
            dialect::Config {
                attribution: apart,
                chat: apart,
                credentials: needs_restart("capture.credentials"),
                max_body_bytes: needs_restart("capture.max_body"),
                budget: unset,
            },
            &old.dialect,
            &new.dialect
        );
        compare!(
            self,
            Order {
                session: needs_restart("attribution.session"),
                user: needs_restart("attribution.user"),
                app: needs_restart("attribution.app"),
            },
            &*old.dialect.attribution,
            &*new.dialect.attribution
        );
        compare!(
            self,
            chat::Config { keep_bodies: needs_restart("chat.keep_bodies") },
            &old.dialect.chat,
            &new.dialect.chat
        );
        compare!(
            self,
            session::Config {
                idle: needs_restart("sessions.idle"),
                max_sessions: needs_restart("sessions.max_open"),
                max_bytes: unset,
            },
            &old.sessions,
            &new.sessions
        );
        compare!(
            self,
            correlator::Config {
                outputs_grace: needs_restart("correlation.outputs_grace"),
                unresolved_grace: needs_restart("correlation.unresolved_grace"),
                assumed_run_time: needs_restart("correlation.assumed_run_time"),
                continuation_grace: needs_restart("correlation.continuation_grace"),
                conversation_ttl: needs_restart("correlation.conversation_ttl"),
                history_max_age: needs_restart("correlation.history_max_age"),
                first_used: unset,
                app_messages: needs_restart("correlation.app_messages"),
                limits: apart,
            },
            &old.correlation,
            &new.correlation
        );
        compare!(
            self,
            Limits {
                conversations: needs_restart("correlation.max_conversations"),
                text_bytes: needs_restart("correlation.max_memory"),
                conversation_messages: needs_restart("correlation.max_conversation_messages"),
                conversation_runs: needs_restart("correlation.max_conversation_runs"),
                conversation_text_bytes: needs_restart("correlation.max_conversation_memory"),
                remembered_turns: needs_restart("correlation.max_remembered_turns"),
            },
            &old.correlation.limits,
            &new.correlation.limits
        );
    }

    fn compare_store(&mut self, old: &store::Config, new: &store::Config) {
        compare!(
            self,
            store::Config {
                data_dir: unset,
                instead_of: unset,
                holder: unset,
                admin: unset,
                sync_every: needs_restart("store.sync_every"),
                retain: needs_restart("store.retain"),
                conversation_ttl: unset,
                remembered_turns: unset,
                queue_bytes: needs_restart("store.queue"),
                batch_bytes: unset,
                max_bytes: needs_restart("store.max_size"),
                retain_bytes: needs_restart("store.retain_size"),
            },
            old,
            new
        );
    }

    fn compare_delivery(&mut self, old: &delivery::Config, new: &delivery::Config) {
        compare!(
            self,
            delivery::Config {
                lanes: needs_restart("delivery.lanes"),
                attempt_timeout: applied("delivery.attempt_timeout"),
                backoff: apart,
                misconfigured_pause: applied("delivery.misconfigured_pause"),
                stuck_after: applied("delivery.stuck_after"),
                max_retry_after: applied("delivery.max_retry_after"),
                give_up_after_age: applied("delivery.give_up_after_age"),
                give_up_after_attempts: applied("delivery.give_up_after_attempts"),
                budget_bytes: applied("delivery.budget"),
            },
            old,
            new
        );
        note(&mut self.applied, "delivery.min_backoff", &old.backoff.min(), &new.backoff.min());
        note(&mut self.applied, "delivery.max_backoff", &old.backoff.max(), &new.backoff.max());
    }
}

#[cfg(test)]
mod tests;
