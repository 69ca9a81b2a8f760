//! The operator's part of the API, which the commands call.
//!
//! Changes need a JSON body. A browser sends one from a web page only after it has asked for
//! permission (CORS preflight), and threadtap does not grant it.

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use serde::Serialize;
use serde_json::json;

use crate::operations::{DeadLetterQuery, ExportQuery, OperationError, Operations, ResendQuery};
use crate::store::{DeadLetters, Subject};

/// Its routes, below `/api/v1`.
pub(super) fn routes() -> Router<Operations> {
    Router::new()
        .route("/status", get(status))
        .route("/dead-letters", get(dead_letters))
        .route("/dead-letters/{id}", get(dead_letter))
        .route("/dead-letters/retry", post(retry))
        .route("/dead-letters/drop", post(drop_letters))
        .route("/export", get(export))
        .route("/resend", post(resend))
        .route("/forget", post(forget))
}

async fn status(State(on): State<Operations>) -> Response {
    answer(on.status().await)
}

async fn dead_letters(State(on): State<Operations>, Query(query): Query<DeadLetterQuery>) -> Response {
    answer(on.dead_letters(&query).await)
}

async fn dead_letter(State(on): State<Operations>, Path(id): Path<u64>) -> Response {
    answer(on.dead_letter(id).await)
}

async fn retry(State(on): State<Operations>, Json(which): Json<DeadLetters>) -> Response {
    answer(on.retry(which).await)
}

async fn drop_letters(State(on): State<Operations>, Json(which): Json<DeadLetters>) -> Response {
    answer(on.drop(which).await)
}

async fn export(State(on): State<Operations>, Query(query): Query<ExportQuery>) -> Response {
    answer(on.export(query).await)
}

async fn resend(State(on): State<Operations>, Json(query): Json<ResendQuery>) -> Response {
    answer(on.resend(&query).await)
}

async fn forget(State(on): State<Operations>, Json(subject): Json<Subject>) -> Response {
    answer(on.forget(&subject).await)
}

fn answer(result: Result<impl Serialize, OperationError>) -> Response {
    match result {
        Ok(value) => Json(value).into_response(),
        Err(error) => {
            let status = match &error {
                OperationError::NotFound(_) => StatusCode::NOT_FOUND,
                OperationError::Store(_) | OperationError::Failing => StatusCode::SERVICE_UNAVAILABLE,
                OperationError::TooBusy(_) => StatusCode::TOO_MANY_REQUESTS,
            };
            let mut text = error.to_string();
            let mut cause = std::error::Error::source(&error);
            while let Some(error) = cause {
                text = format!("{text}: {error}");
                cause = error.source();
            }
            (status, Json(json!({ "error": text }))).into_response()
        }
    }
}
