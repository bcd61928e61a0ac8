//! Lines of text with open files, over a Unix socket (`SCM_RIGHTS`, unix(7)).

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

/// Most files with one line. The kernel's limit is 253 (`SCM_MAX_FD`).
pub const MAX_FILES: usize = 128;
/// Longest line, in bytes.
const MAX_LINE: usize = 64 * 1024;

/// A line that is being received.
#[derive(Debug, Default)]
pub struct ReceivedLine {
    /// The bytes so far, without the final newline.
    pub bytes: Vec<u8>,
    /// The files that came with them.
    pub files: Vec<OwnedFd>,
}

impl ReceivedLine {
    /// Receives the next part. Returns whether the line is complete.
    ///
    /// # Errors
    /// `WouldBlock`, the peer has closed the connection, or it sent too much.
    pub fn receive(&mut self, socket: &impl AsFd) -> io::Result<bool> {
        let mut part = [0; 4096];
        let mut space = nix::cmsg_space!([RawFd; MAX_FILES]);
        let mut parts = [IoSliceMut::new(&mut part)];
        let descriptor = socket.as_fd().as_raw_fd();
        let received = recvmsg::<()>(descriptor, &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
        for message in received.cmsgs()? {
            if let ControlMessageOwned::ScmRights(files) = message {
                // SAFETY: the kernel created these descriptors for this call: they have no other owner.
                self.files.extend(files.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
            }
        }
        let (length, truncated) = (received.bytes, received.flags.contains(MsgFlags::MSG_CTRUNC));
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.bytes.extend_from_slice(&part[..length]);
        if truncated || self.files.len() > MAX_FILES || self.bytes.len() > MAX_LINE {
            return Err(io::Error::other("the peer sent too much"));
        }
        let complete = self.bytes.last() == Some(&b'\n');
        if complete {
            self.bytes.pop();
        }
        Ok(complete)
    }
}

/// Sends `bytes` with files, on a blocking socket.
///
/// # Errors
/// The peer has closed the connection, or there are more than [`MAX_FILES`].
pub fn send(socket: &impl AsFd, bytes: &[u8], files: &[impl AsFd]) -> io::Result<()> {
    let files: Vec<RawFd> = files.iter().map(|file| file.as_fd().as_raw_fd()).collect();
    let descriptor = socket.as_fd().as_raw_fd();
    let mut rest = bytes;
    while !rest.is_empty() {
        let rights = [ControlMessage::ScmRights(&files)];
        // The files go with the first byte.
        let rights = if rest.len() == bytes.len() && !files.is_empty() { &rights[..] } else { &[] };
        match sendmsg::<()>(descriptor, &[IoSlice::new(rest)], rights, MsgFlags::MSG_NOSIGNAL, None) {
            Ok(sent) => rest = &rest[sent..],
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn receive(socket: &UnixStream) -> io::Result<ReceivedLine> {
        let mut line = ReceivedLine::default();
        while !line.receive(socket)? {}
        Ok(line)
    }

    #[test]
    fn passes_a_line_with_files() {
        let (near, far) = UnixStream::pair().unwrap();
        let files = [File::open("/dev/zero").unwrap(), File::open("/dev/null").unwrap()];
        send(&near, b"two files\n", &files).unwrap();
        send(&near, b"none\n", &[] as &[File]).unwrap();
        let mut line = ReceivedLine::default();
        assert!(line.receive(&far).unwrap());
        // The second line was sent without files, but with a stream it may arrive together with the first.
        assert!(line.bytes.starts_with(b"two files"));
        let [zero, null] = <[OwnedFd; 2]>::try_from(line.files).unwrap().map(File::from);
        let mut byte = [1];
        assert_eq!(((&zero).read(&mut byte).unwrap(), byte), (1, [0]));
        assert_eq!((&null).read(&mut byte).unwrap(), 0);
    }

    #[test]
    fn limits_length_and_number_of_files() {
        let (near, far) = UnixStream::pair().unwrap();
        let sender = std::thread::spawn(move || {
            let _ = send(&near, &vec![b'x'; MAX_LINE + 1], &[] as &[File]);
        });
        assert_eq!(receive(&far).unwrap_err().to_string(), "the peer sent too much");
        drop(far);
        sender.join().unwrap();
        let (near, far) = UnixStream::pair().unwrap();
        let null = File::open("/dev/null").unwrap();
        send(&near, b"x", &vec![&null; MAX_FILES]).unwrap();
        send(&near, b"x\n", &[&null]).unwrap();
        assert_eq!(receive(&far).unwrap_err().to_string(), "the peer sent too much");
        drop(near);
        assert_eq!(receive(&far).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
