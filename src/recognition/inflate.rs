//! Inflation into a buffer of bounded size.

use flate2::{Decompress, FlushDecompress, Status};

/// Compression format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// RFC 1950, with header and checksum.
    Zlib,
    /// RFC 1951, raw.
    Deflate,
}

/// Bytes that are inflated in one step.
const STEP: usize = 4 << 10;

/// Inflates `packed`. Returns None if it is broken or cut, needs a dictionary, has trailing bytes, or yields more than
/// `bytes_max` bytes.
pub fn inflate(packed: &[u8], packing: Packing, bytes_max: usize) -> Option<Vec<u8>> {
    let mut stream = Decompress::new(packing == Packing::Zlib);
    let mut bytes = Vec::new();
    loop {
        let (read, written) = (stream.total_in() as usize, stream.total_out() as usize);
        let more = STEP.min((bytes_max + 1).saturating_sub(written));
        if more == 0 {
            return None;
        }
        bytes.resize(written + more, 0);
        let rest = packed.get(read..)?;
        let status = stream.decompress(rest, &mut bytes[written..], FlushDecompress::None);
        let (now_read, now_written) = (stream.total_in() as usize, stream.total_out() as usize);
        match status.ok()? {
            Status::StreamEnd => {
                bytes.truncate(now_written);
                let is_whole = now_read == packed.len() && now_written <= bytes_max;
                return is_whole.then_some(bytes);
            }
            Status::Ok | Status::BufError => {
                if now_read == read && now_written == written {
                    return None;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn pack(bytes: &[u8], packing: Packing) -> Vec<u8> {
        let level = flate2::Compression::best();
        match packing {
            Packing::Zlib => {
                let mut to = flate2::write::ZlibEncoder::new(Vec::new(), level);
                to.write_all(bytes).unwrap();
                to.finish().unwrap()
            }
            Packing::Deflate => {
                let mut to = flate2::write::DeflateEncoder::new(Vec::new(), level);
                to.write_all(bytes).unwrap();
                to.finish().unwrap()
            }
        }
    }

    #[test]
    fn packed_bytes_come_back_up_to_the_bound_and_no_further() {
        for packing in [Packing::Zlib, Packing::Deflate] {
            for length in [0, 1, STEP - 1, STEP, STEP + 1, 10_000] {
                let bytes: Vec<u8> = (0..length).map(|n| (n * 7 % 251) as u8).collect();
                let packed = pack(&bytes, packing);
                assert_eq!(inflate(&packed, packing, length), Some(bytes.clone()));
                if length > 0 {
                    assert_eq!(inflate(&packed, packing, length - 1), None);
                    assert_eq!(inflate(&packed[..packed.len() - 1], packing, length), None);
                }
                let longer = [&packed[..], b"x"].concat();
                assert_eq!(inflate(&longer, packing, length), None);
            }
            let bomb = pack(&vec![0; 50 << 20], packing);
            assert_eq!(inflate(&bomb, packing, 16 << 10), None);
            assert_eq!(inflate(b"", packing, 10), None);
            assert_eq!(inflate(b"not packed at all", packing, 1_000), None);
        }
        let zlib = pack(b"text", Packing::Zlib);
        assert_eq!(inflate(&zlib, Packing::Deflate, 100), None);
        // FDICT: the head asks for a dictionary.
        assert_eq!(
            inflate(b"\x78\xbb\x00\x00\x00\x01\x03\x00", Packing::Zlib, 100),
            None
        );
        let mut wrong_sum = zlib.clone();
        *wrong_sum.last_mut().unwrap() ^= 1;
        assert_eq!(inflate(&wrong_sum, Packing::Zlib, 100), None);
    }
}
