//! Reads the frames of a pcap or pcapng file (draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng) through a buffer of
//! fixed length.

use std::fs::File;
use std::path::{Path, PathBuf};

use pcap_parser::pcapng::{OptionCode, PcapNGOption};
use pcap_parser::traits::{PcapNGPacketBlock, PcapReaderIterator};
use pcap_parser::{Block, Linktype, PcapBlockOwned, PcapError, create_reader};

use super::super::error::CliError;
use crate::control::capture::{APPLICATION, segment_size};
use crate::control::trace::LONGEST;

/// Longest block of a file, in bytes: the longest frame that libpcap writes (its `MAXIMUM_SNAPLEN`), and options.
const LONGEST_BLOCK: usize = 512 * 1024;

/// A frame of the file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PcapFrame {
    pub(super) bytes: Vec<u8>,
    /// Payload bytes of each segment, if the frame is a super-frame: only files of `uswitch capture` have it.
    pub(super) gso_size: Option<u16>,
    /// The port that it entered, in a capture of `uswitch capture`. `None` for a frame that left at a port,
    /// and in other files.
    pub(super) ingress: Option<String>,
}

/// An interface of the file.
struct PcapInterface {
    link: Linktype,
    name: Option<String>,
}

/// What the file has said so far.
#[derive(Default)]
struct PcapHeaders {
    /// Each interface; one in pcap.
    interfaces: Vec<PcapInterface>,
    /// `uswitch capture` wrote this section, so its directions are those of the switch.
    from_uswitch: bool,
}

/// The frames of one file.
pub(super) struct PcapFrames {
    path: PathBuf,
    reader: Box<dyn PcapReaderIterator + Send>,
    headers: PcapHeaders,
    ended: bool,
}

/// A block of the file.
enum PcapBlock {
    Frame(PcapFrame),
    /// A frame of an interface that is not Ethernet.
    Foreign(Option<Linktype>),
    Nothing,
}

impl PcapFrames {
    /// Opens the file.
    pub(super) fn open(path: &Path) -> Result<PcapFrames, CliError> {
        let what = format!("read {}", path.display());
        let file = File::open(path).map_err(CliError::io(what))?;
        let reader = create_reader(LONGEST_BLOCK, file).map_err(|error| bad(path, error_text(&error)))?;
        Ok(PcapFrames { path: path.to_owned(), reader, headers: PcapHeaders::default(), ended: false })
    }

    fn advance(&mut self) -> Result<Option<PcapFrame>, CliError> {
        loop {
            let found = match self.reader.next() {
                Ok((length, block)) => {
                    let found = look(&mut self.headers, &block);
                    self.reader.consume(length);
                    found
                }
                Err(PcapError::Eof) => return Ok(None),
                Err(PcapError::Incomplete(_)) => {
                    self.read_on()?;
                    continue;
                }
                Err(error) => return Err(bad(&self.path, error_text(&error))),
            };
            match found {
                PcapBlock::Frame(frame) => return Ok(Some(frame)),
                PcapBlock::Foreign(link) => {
                    let link = link.map_or_else(|| "unknown".to_owned(), |link| link.to_string());
                    return Err(bad(
                        &self.path,
                        &format!("its link type is {link}: capture on an Ethernet device"),
                    ));
                }
                PcapBlock::Nothing => {}
            }
        }
    }
}

impl PcapFrames {
    /// Reads more of the file. The next read finds its end.
    fn read_on(&mut self) -> Result<(), CliError> {
        let before = self.reader.data().len();
        self.reader.refill().map_err(|error| bad(&self.path, error_text(&error)))?;
        let more = self.reader.data().len() > before || self.reader.reader_exhausted();
        if more { Ok(()) } else { Err(bad(&self.path, DAMAGED)) }
    }
}

impl Iterator for PcapFrames {
    type Item = Result<PcapFrame, CliError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.advance().transpose();
        self.ended = !matches!(next, Some(Ok(_)));
        next
    }
}

fn look(headers: &mut PcapHeaders, block: &PcapBlockOwned<'_>) -> PcapBlock {
    let (interface, data, length, options) = match block {
        PcapBlockOwned::LegacyHeader(header) => {
            headers.interfaces.push(PcapInterface { link: header.network, name: None });
            return PcapBlock::Nothing;
        }
        PcapBlockOwned::NG(Block::SectionHeader(section)) => {
            let application = text(&section.options, OptionCode::ShbUserAppl);
            *headers = PcapHeaders {
                interfaces: Vec::new(),
                from_uswitch: application.is_some_and(|name| name.starts_with(APPLICATION)),
            };
            return PcapBlock::Nothing;
        }
        PcapBlockOwned::NG(Block::InterfaceDescription(interface)) => {
            let name = text(&interface.options, OptionCode::IfName);
            headers.interfaces.push(PcapInterface { link: interface.linktype, name });
            return PcapBlock::Nothing;
        }
        PcapBlockOwned::Legacy(record) => (0, record.data, record.origlen, &[][..]),
        PcapBlockOwned::NG(Block::EnhancedPacket(packet)) => {
            (packet.if_id, packet.packet_data(), packet.origlen, &packet.options[..])
        }
        PcapBlockOwned::NG(Block::SimplePacket(packet)) => (0, packet.packet_data(), packet.origlen, &[][..]),
        PcapBlockOwned::NG(_) => return PcapBlock::Nothing,
    };
    match usize::try_from(interface).ok().and_then(|interface| headers.interfaces.get(interface)) {
        Some(PcapInterface { link: Linktype::ETHERNET, name }) => PcapBlock::Frame(PcapFrame {
            bytes: whole(data, length),
            gso_size: segment_size(options).filter(|_| headers.from_uswitch),
            ingress: name.clone().filter(|_| headers.from_uswitch && is_inbound(options)),
        }),
        interface => PcapBlock::Foreign(interface.map(|interface| interface.link)),
    }
}

/// The text of an option.
fn text(options: &[PcapNGOption<'_>], code: OptionCode) -> Option<String> {
    let option = options.iter().find(|option| option.code == code)?;
    option.as_str().ok().map(str::to_owned)
}

/// Whether `epb_flags` says that the packet is inbound.
fn is_inbound(options: &[PcapNGOption<'_>]) -> bool {
    let flags = options.iter().find(|option| option.code == OptionCode(2));
    flags.and_then(|option| option.as_u32_le().ok()).is_some_and(|flags| flags & 3 == 1)
}

/// The frame in its original length. Zeros replace what the capture cut off: the switch does not read it.
fn whole(data: &[u8], length: u32) -> Vec<u8> {
    let length = usize::try_from(length).unwrap_or(usize::MAX).min(LONGEST);
    let mut frame = data.to_vec();
    frame.resize(length.max(data.len()), 0);
    frame
}

fn bad(path: &Path, why: &str) -> CliError {
    CliError::Usage(format!("{}: {why}", path.display()))
}

const DAMAGED: &str = "it is damaged";

const fn error_text<I>(error: &PcapError<I>) -> &'static str {
    match error {
        PcapError::HeaderNotRecognized | PcapError::Eof => "not a pcap or pcapng file",
        PcapError::UnexpectedEof | PcapError::Incomplete(_) => "the file ends in the middle of a frame",
        PcapError::BufferTooSmall => "it has a block longer than 512 KiB",
        PcapError::ReadError => "it cannot be read",
        PcapError::NomError(..) | PcapError::OwnedNomError(..) => DAMAGED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: &[u8] = &[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x88, 0xb5];
    const ETHERNET: u32 = 1;

    /// A pcap file of frames with their original lengths.
    fn pcap(link: u32, frames: &[(&[u8], u32)]) -> Vec<u8> {
        let mut file = [0xa1b2_c3d4, 0x0004_0002, 0, 0, 65535, link].map(u32::to_le_bytes).concat();
        for (bytes, length) in frames {
            let captured = u32::try_from(bytes.len()).unwrap();
            file.extend([0, 0, captured, *length].map(u32::to_le_bytes).concat());
            file.extend(*bytes);
        }
        file
    }

    /// A section header, an interface and an enhanced packet block, in the byte order of `word`.
    fn pcapng(word: fn(u32) -> [u8; 4], link: u32) -> Vec<u8> {
        let block = |kind: u32, body: Vec<u8>| {
            let length = u32::try_from(body.len() + 12).unwrap();
            [&word(kind)[..], &word(length), &body, &word(length)].concat()
        };
        let version = if word(1)[0] == 1 { [1, 0, 0, 0] } else { [0, 1, 0, 0] };
        let section = [&word(0x1a2b_3c4d)[..], &version, &[0xff; 8]].concat();
        let link = if word(1)[0] == 1 { link } else { link << 16 };
        let frame = [0, 0, 0, 14, 14].map(word).concat();
        [
            block(0x0a0d_0d0a, section),
            block(1, [word(link), word(65535)].concat()),
            block(0x4242, [0xfe; 4].to_vec()),
            block(6, [&frame[..], FRAME, &[0, 0]].concat()),
        ]
        .concat()
    }

    /// The frames of a file, and its error.
    fn read(file: &[u8]) -> (Vec<Vec<u8>>, Option<String>) {
        let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        std::fs::write(&path, file).unwrap();
        let (mut frames, mut error) = (Vec::new(), None);
        match PcapFrames::open(&path) {
            Ok(found) => found.for_each(|frame| match frame {
                Ok(frame) => frames.push(frame.bytes),
                Err(why) => error = Some(why.to_string()),
            }),
            Err(why) => error = Some(why.to_string()),
        }
        let name = format!("{}: ", path.display());
        (frames, error.map(|why| why.strip_prefix(&name).expect("it names the file").to_owned()))
    }

    #[test]
    fn reads_pcap_and_pcapng_in_both_byte_orders() {
        assert_eq!(read(&pcap(ETHERNET, &[(FRAME, 14); 3])), (vec![FRAME.to_vec(); 3], None));
        assert_eq!(read(&pcapng(u32::to_le_bytes, ETHERNET)), (vec![FRAME.to_vec()], None));
        assert_eq!(read(&pcapng(u32::to_be_bytes, ETHERNET)), (vec![FRAME.to_vec()], None));
        assert_eq!(read(&pcap(ETHERNET, &[])), (Vec::new(), None));
    }

    #[test]
    fn pads_truncated_frames_to_original_length() {
        let (frames, error) = read(&pcap(ETHERNET, &[(FRAME, 1514), (FRAME, u32::MAX)]));
        assert_eq!(error, None);
        assert_eq!(frames.iter().map(Vec::len).collect::<Vec<_>>(), [1514, LONGEST]);
        assert_eq!((&frames[0][..14], frames[0][14]), (FRAME, 0));
    }

    #[test]
    fn rejects_damaged_and_foreign_files() {
        let whole = pcap(ETHERNET, &[(FRAME, 14), (FRAME, 14)]);
        let cut = |at: usize| read(&whole[..at]);
        assert_eq!(cut(whole.len() - 1).0.len(), 1);
        assert_eq!(cut(whole.len() - 1).1.as_deref(), Some("the file ends in the middle of a frame"));
        for file in [&b"root:x:0:0"[..], &[], &whole[..3]] {
            let (frames, error) = read(file);
            assert!(frames.is_empty() && error.is_some(), "{file:?}: {error:?}");
        }
        let (_, error) = read(&pcap(113, &[(FRAME, 14)]));
        assert!(error.as_ref().is_some_and(|why| why.contains("capture on an Ethernet device")), "{error:?}");
        let mut endless = pcap(ETHERNET, &[(FRAME, 14)]);
        endless[32..36].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(read(&endless).1.is_some());
    }
}
