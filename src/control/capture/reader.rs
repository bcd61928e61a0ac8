//! Reads a capture: splits it into whole blocks and follows its interfaces.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};

use pcap_parser::pcapng::{EnhancedPacketBlock, OptionCode, PcapNGOption};
use pcap_parser::{Block, parse_block_le};

use super::CaptureFilter;
use crate::sys::limits::explain_write_error;

impl CaptureFilter {
    /// The API path of this capture. Cannot fail for these fields.
    pub(crate) fn path(&self) -> Result<String, serde_urlencoded::ser::Error> {
        Ok(format!("/v1/capture?{}", serde_urlencoded::to_string(self)?))
    }
}

/// An interface, as the reader knows it.
#[derive(Debug)]
struct ReaderInterface {
    name: String,
    captured: usize,
    lost: u64,
}

/// State of a capture that is being read.
#[derive(Debug, Default)]
pub(crate) struct CaptureReader {
    /// The start of an incomplete block.
    partial: Vec<u8>,
    interfaces: Vec<ReaderInterface>,
}

impl CaptureReader {
    /// Returns the blocks that are complete with `chunk`. Calls `packet` for each packet with its
    /// interface name.
    pub(crate) fn add(
        &mut self,
        chunk: &[u8],
        mut packet: impl FnMut(&str, &EnhancedPacketBlock<'_>),
    ) -> Vec<u8> {
        let whole = self.take_whole_blocks(chunk);
        let mut rest = whole.as_slice();
        while let Ok((after, block)) = parse_block_le(rest) {
            rest = after;
            match block {
                Block::InterfaceDescription(block) => {
                    let name = text(&block.options, OptionCode::IfName);
                    self.interfaces.push(ReaderInterface { name, captured: 0, lost: 0 });
                }
                Block::EnhancedPacket(block) => {
                    if let Some(interface) = self.interfaces.get_mut(block.if_id as usize) {
                        interface.captured += 1;
                        packet(&interface.name, &block);
                    }
                }
                Block::InterfaceStatistics(block) => {
                    let lost = option(&block.options, OptionCode::IsbIfDrop);
                    let lost = lost.and_then(|option| option.as_u64_le().ok());
                    if let (Some(interface), Some(lost)) =
                        (self.interfaces.get_mut(block.if_id as usize), lost)
                    {
                        interface.lost = lost;
                    }
                }
                _ => {}
            }
        }
        whole
    }

    /// Names of the interfaces so far.
    pub(crate) fn ports(&self) -> Vec<&str> {
        self.interfaces.iter().map(|interface| interface.name.as_str()).collect()
    }

    /// Number of captured packets.
    pub(crate) fn captured(&self) -> usize {
        self.interfaces.iter().map(|interface| interface.captured).sum()
    }

    /// Number of packets lost because this reader was slow.
    pub(crate) fn lost(&self) -> u64 {
        self.interfaces.iter().map(|interface| interface.lost).sum()
    }

    fn take_whole_blocks(&mut self, chunk: &[u8]) -> Vec<u8> {
        self.partial.extend_from_slice(chunk);
        let rest = self.partial.split_off(whole_blocks(&self.partial));
        std::mem::replace(&mut self.partial, rest)
    }
}

/// Length of the whole blocks at the start of `bytes`.
fn whole_blocks(bytes: &[u8]) -> usize {
    let mut whole = 0;
    while let Some([a, b, c, d]) = bytes.get(whole + 4..whole + 8) {
        let length = u32::from_le_bytes([*a, *b, *c, *d]) as usize;
        if length < 12 || bytes.len() - whole < length {
            break;
        }
        whole += length;
    }
    whole
}

/// Appends whole blocks to a capture file. If only a part of them can be written, cuts the file back to the
/// last whole block, so that it stays well-formed.
pub(crate) fn write_blocks(file: &mut File, blocks: &[u8]) -> io::Result<()> {
    let mut written = 0;
    while written < blocks.len() {
        let error = match file.write(&blocks[written..]) {
            Ok(0) => io::ErrorKind::WriteZero.into(),
            Ok(length) => {
                written += length;
                continue;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => explain_write_error(error),
        };
        // If this fails too, programs skip the torn block.
        let _ = cut_back(file, written - whole_blocks(&blocks[..written]));
        return Err(error);
    }
    Ok(())
}

/// Removes the last bytes of a regular file.
fn cut_back(file: &mut File, torn: usize) -> io::Result<()> {
    let metadata = file.metadata()?;
    if metadata.is_file() && torn > 0 {
        file.set_len(metadata.len().saturating_sub(torn as u64))?;
        file.seek(SeekFrom::End(0))?;
    }
    Ok(())
}

/// The first option with this code.
pub(crate) fn option<'a, 'b>(
    options: &'a [PcapNGOption<'b>],
    code: OptionCode,
) -> Option<&'a PcapNGOption<'b>> {
    options.iter().find(|option| option.code == code)
}

/// The text of an option; empty if it is absent.
pub(crate) fn text(options: &[PcapNGOption<'_>], code: OptionCode) -> String {
    option(options, code).and_then(|option| option.as_str().ok()).unwrap_or_default().to_owned()
}
