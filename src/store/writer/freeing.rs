//! Which of what waits makes room for the rest, for a database that is full: that goes before its turn.

use std::collections::HashSet;

use crate::store::Op;
use crate::store::inbox::Write;

/// Moves what became of deliveries to the front, in as little room as it may take: what was delivered first, and alone, for it only
/// deletes; what was given up behind it, without the backend's answer. That an attempt failed is left out. Tells how many writes
/// to try by themselves: those of the first kind, or else of the second.
pub(super) fn outcomes_first(pending: &mut Vec<Write>) -> usize {
    // Those whose outcome was moved before are done with what is moved now: who waits for them need wait for nothing else.
    let is_outcome =
        |write: &Write| write.frees() || (write.ops.is_empty() && write.bytes > 0 && write.written.is_some());
    let (outcomes, others): (Vec<Write>, Vec<Write>) = pending.drain(..).partition(is_outcome);
    let mut delivered = Vec::new();
    let (mut done, mut given_up) = (Vec::new(), Vec::new());
    for mut write in outcomes {
        write.ops.retain_mut(|op| match op {
            Op::Delivered { id } => {
                delivered.push(Op::Delivered { id: *id });
                false
            }
            Op::Failed { .. } => false,
            Op::Dead { answer, .. } => {
                answer.clear();
                true
            }
            _ => true,
        });
        if write.ops.is_empty() { done.push(write) } else { given_up.push(write) }
    }
    // Who waits for these, and their bytes, stay with the writes they came with, which are next.
    let count = if delivered.is_empty() {
        done.len() + given_up.len()
    } else {
        done.insert(0, Write { ops: delivered, bytes: 0, written: None });
        done.len()
    };
    pending.extend(done.into_iter().chain(given_up).chain(others));
    count
}

/// Moves the settlings to the front, each a write of its own and the shortest first: one that finds no room must not keep others
/// from making some. The journal rows that wait before a settling are dropped, as it would delete them; those after it keep their
/// place. Tells how many settlings there are.
///
/// What a conversation's journal holds on disk would otherwise stay there for good: the settling that frees it would wait behind
/// what finds no room.
pub(super) fn settlings_first(pending: &mut Vec<Write>) -> usize {
    let mut settled = HashSet::new();
    let mut settlings = Vec::new();
    for write in pending.iter_mut().rev() {
        let mut kept = Vec::with_capacity(write.ops.len());
        for op in write.ops.drain(..).rev() {
            match &op {
                Op::Settle { conversation, .. } => {
                    // Of several only the last one counts.
                    if settled.insert(conversation.clone()) {
                        settlings.push(op);
                    }
                }
                Op::Journal { conversation, .. } if settled.contains(conversation) => {}
                _ => kept.push(op),
            }
        }
        kept.reverse();
        write.ops = kept;
    }
    // Those that were moved before leave nothing behind.
    pending.retain(|write| !write.ops.is_empty() || write.bytes > 0 || write.written.is_some());
    let count = settlings.len();
    settlings.sort_by_key(Op::bytes);
    // Their bytes stay on the account of the writes they came with, which are released later.
    pending.splice(..0, settlings.into_iter().map(|op| Write { ops: vec![op], bytes: 0, written: None }));
    count
}

#[cfg(test)]
mod tests {
    use threadtap_core::observation::ConversationKey;
    use threadtap_core::time::UnixMillis;

    use super::*;

    #[test]
    fn what_was_delivered_goes_first_and_alone() {
        let failed = |id| Op::Failed { id, attempts: 1, failure: "no answer".to_owned() };
        let dead = |id| Op::Dead { id, attempts: 1, reason: "refused", answer: "much".repeat(1000) };
        let write = |ops| Write { ops, bytes: 1, written: None };
        let other = || Op::User { id: "u".to_owned(), body: "{}".to_owned() };
        let mut pending = vec![
            write(vec![other()]),
            write(vec![failed(1), dead(2), Op::Delivered { id: 3 }]),
            write(vec![failed(4)]),
            write(vec![Op::Delivered { id: 5 }]),
        ];
        let shown = |pending: &[Write]| -> Vec<String> {
            pending.iter().map(|write| format!("{} {:?}", write.bytes, write.ops)).collect()
        };
        assert_eq!(outcomes_first(&mut pending), 3, "and those that hold nothing any more");
        assert_eq!(
            shown(&pending),
            shown(&[
                Write {
                    ops: vec![Op::Delivered { id: 3 }, Op::Delivered { id: 5 }],
                    bytes: 0,
                    written: None
                },
                write(vec![]),
                write(vec![]),
                write(vec![Op::Dead { id: 2, attempts: 1, reason: "refused", answer: String::new() }]),
                write(vec![other()]),
            ])
        );
        pending.drain(..3);
        assert_eq!(outcomes_first(&mut pending), 1);
        pending.remove(0);
        assert_eq!(outcomes_first(&mut pending), 0);
    }

    #[test]
    fn settlings_go_first_and_take_the_journal_before_them_along() {
        let key = |id: &str| ConversationKey { upstream: "u".into(), id: id.into() };
        let journal = |id: &str, body: &str| Op::Journal {
            conversation: key(id),
            at: UnixMillis(0),
            body: body.to_owned(),
        };
        let settle =
            |id: &str, state: &str| Op::Settle { conversation: key(id), state: Some(state.to_owned()) };
        let write = |ops| Write { ops, bytes: 1, written: None };
        let mut pending = vec![
            write(vec![journal("a", "1"), journal("b", "1"), settle("a", "old")]),
            write(vec![Op::Delivered { id: 1 }, journal("a", "2")]),
            write(vec![settle("a", "new"), journal("a", "3")]),
        ];
        assert_eq!(settlings_first(&mut pending), 1);
        let shown: Vec<Vec<String>> = pending
            .iter()
            .map(|write| {
                let name = |op: &Op| match op {
                    Op::Journal { conversation, body, .. } => format!("{} {body}", conversation.id),
                    Op::Settle { conversation, state } => format!("{} {state:?}", conversation.id),
                    _ => "other".to_owned(),
                };
                write.ops.iter().map(name).collect()
            })
            .collect();
        assert_eq!(shown, [vec!["a Some(\"new\")"], vec!["b 1"], vec!["other"], vec!["a 3"]]);
        for _ in 0..3 {
            let before = pending.len();
            assert_eq!(settlings_first(&mut pending), 1);
            assert_eq!(pending.len(), before, "again and again, it leaves nothing behind");
        }
        pending.remove(0);
        assert_eq!(settlings_first(&mut pending), 0);
    }
}
