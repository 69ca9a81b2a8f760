//! What can go wrong with the database, and what that means.

use rusqlite::ErrorCode;

/// A kind of trouble. Each kind is handled differently, and is also a label in metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    Busy,
    Corrupt,
    Full,
    Io,
    Other,
    ReadOnly,
    Vanished,
}

impl Trouble {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Corrupt => "corrupt",
            Self::Full => "full",
            Self::Io => "io",
            Self::Other => "other",
            Self::ReadOnly => "read_only",
            Self::Vanished => "vanished",
        }
    }
}

/// Trouble, as described by the code that found it.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) trouble: Trouble,
    pub(super) text: String,
}

impl Failure {
    /// The files are not where they were.
    pub(super) fn vanished() -> Self {
        Self { trouble: Trouble::Vanished, text: "the database is gone from the data directory".to_owned() }
    }
}

impl From<&rusqlite::Error> for Failure {
    fn from(error: &rusqlite::Error) -> Self {
        Self { trouble: trouble(error), text: error.to_string() }
    }
}

/// Whether SQLite reports that the file is not a database, or no longer one.
pub(super) fn is_corrupt(error: &rusqlite::Error) -> bool {
    trouble(error) == Trouble::Corrupt
}

/// Whether a retry cannot help, whatever happens to the disk.
pub(super) fn is_hopeless(error: &rusqlite::Error) -> bool {
    use ErrorCode as Code;
    match error.sqlite_error_code() {
        Some(code) => matches!(
            code,
            Code::ApiMisuse
                | Code::ConstraintViolation
                | Code::ParameterOutOfRange
                | Code::TooBig
                | Code::TypeMismatch
        ),
        // The failure is not from SQLite: a value could not be converted.
        None => true,
    }
}

fn trouble(error: &rusqlite::Error) -> Trouble {
    use ErrorCode as Code;
    match error.sqlite_error_code() {
        Some(Code::DiskFull) => Trouble::Full,
        Some(Code::DatabaseCorrupt | Code::NotADatabase) => Trouble::Corrupt,
        Some(Code::DatabaseBusy | Code::DatabaseLocked) => Trouble::Busy,
        Some(Code::ReadOnly | Code::PermissionDenied | Code::CannotOpen) => Trouble::ReadOnly,
        Some(Code::SystemIoFailure) => Trouble::Io,
        _ => Trouble::Other,
    }
}
