//! The key with which callers are told apart. It is created once per data directory, so that the
//! names of callers survive a restart.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::proxy::CallerKey;

/// Reads the key of a data directory, or creates one if there is none. Without a directory, creates
/// a key for this process only.
pub(super) fn load_or_make(directory: Option<&Path>) -> io::Result<CallerKey> {
    let Some(directory) = directory else { return Ok(CallerKey::new(&random()?)) };
    let path = directory.join(FILE_NAME);
    match fs::read(&path) {
        Ok(secret) if secret.len() == KEY_BYTES => return Ok(CallerKey::new(&secret)),
        Ok(_) => tracing::warn!(path = %path.display(), "the caller key is damaged; callers get new names"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let secret = random()?;
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
    file.write_all(&secret)?;
    file.sync_all()?;
    Ok(CallerKey::new(&secret))
}

fn random() -> io::Result<[u8; KEY_BYTES]> {
    let mut secret = [0; KEY_BYTES];
    fs::File::open("/dev/urandom")?.read_exact(&mut secret)?;
    Ok(secret)
}

const FILE_NAME: &str = "caller.key";
const KEY_BYTES: usize = 32;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_data_directory_keeps_its_key_to_itself() {
        let directory = tempfile::tempdir().unwrap();
        load_or_make(Some(directory.path())).unwrap();
        let path = directory.path().join(FILE_NAME);
        let first = fs::read(&path).unwrap();
        load_or_make(Some(directory.path())).unwrap();
        assert_eq!(fs::read(&path).unwrap(), first);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        load_or_make(None).unwrap();
    }
}
