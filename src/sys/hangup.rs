//! Detects that the reader of a pipe or a socket has closed it. Without this, a writer learns of it only at
//! its next write.

use std::future::pending;
use std::os::fd::{AsFd, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Resolves when the other end of `output` is closed. For a regular file it never resolves.
///
/// # Panics
/// Outside a tokio runtime.
pub async fn hangup(output: impl AsFd) {
    let Ok(output) = output.as_fd().try_clone_to_owned().map_err(drop).and_then(register) else {
        // epoll does not support regular files (EPERM).
        return pending().await;
    };
    while let Ok(mut writable) = output.writable().await {
        if writable.ready().is_write_closed() {
            return;
        }
        writable.clear_ready();
    }
}

fn register(output: OwnedFd) -> Result<AsyncFd<OwnedFd>, ()> {
    // SAFETY: an `OwnedFd` keeps its descriptor open, and the same, until it is dropped. It moves into the
    // `AsyncFd`, which no caller gets by value or mutably.
    unsafe { AsyncFd::register_with_interest(output, Interest::WRITABLE) }.map_err(drop)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use super::*;

    /// Whether [`hangup`] resolves now.
    async fn is_closed(output: impl AsFd) -> bool {
        tokio::time::timeout(Duration::ZERO, hangup(output)).await.is_ok()
    }

    #[tokio::test]
    async fn resolves_when_pipe_reader_closes() {
        let (mut reader, mut writer) = std::io::pipe().unwrap();
        let closed = hangup(writer.try_clone().unwrap());
        tokio::pin!(closed);
        for _ in 0..3 {
            writer.write_all(b"read").unwrap();
            reader.read_exact(&mut [0; 4]).unwrap();
            tokio::time::timeout(Duration::from_millis(1), &mut closed).await.unwrap_err();
        }
        // Full.
        writer.write_all(&[0; 1 << 16]).unwrap();
        tokio::time::timeout(Duration::from_millis(1), &mut closed).await.unwrap_err();
        drop(reader);
        closed.await;
        hangup(&writer).await;
    }

    #[tokio::test]
    async fn resolves_when_socket_is_closed_both_ways() {
        let (writer, reader) = UnixStream::pair().unwrap();
        reader.shutdown(std::net::Shutdown::Write).unwrap();
        assert!(!is_closed(&writer).await, "it still reads");
        drop(reader);
        hangup(&writer).await;
    }

    #[tokio::test]
    async fn never_resolves_for_a_file() {
        assert!(!is_closed(tempfile::tempfile().unwrap()).await);
        assert!(!is_closed(std::fs::File::create("/dev/null").unwrap()).await);
    }
}
