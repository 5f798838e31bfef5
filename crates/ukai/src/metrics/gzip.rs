//! gzip bodies, bounded: a bomb of a kilobyte costs no more than an honest body of the limit.

use std::io::Read;

use flate2::read::MultiGzDecoder;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InflateError {
    #[error("the body holds more than {limit} bytes when it is decompressed")]
    TooLarge { limit: usize },
    #[error("the body is not gzip, although Content-Encoding says so")]
    Broken,
}

pub fn inflate(body: &[u8], limit: usize) -> Result<Vec<u8>, InflateError> {
    let mut plain = Vec::new();
    MultiGzDecoder::new(body).take(limit as u64 + 1).read_to_end(&mut plain).map_err(|_| InflateError::Broken)?;
    if plain.len() > limit { Err(InflateError::TooLarge { limit }) } else { Ok(plain) }
}

#[cfg(test)]
pub fn deflate(plain: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_compressed_comes_back() {
        let plain = b"a metric and another".repeat(100);
        assert_eq!(inflate(&deflate(&plain), plain.len()).unwrap(), plain);
    }

    #[test]
    fn a_bomb_and_a_cut_body_are_refused() {
        let bomb = deflate(&vec![0; 10 << 20]);
        assert!(bomb.len() < 64 * 1024);
        assert_eq!(inflate(&bomb, 1 << 20), Err(InflateError::TooLarge { limit: 1 << 20 }));
        let whole = deflate(b"something");
        assert_eq!(inflate(&whole[..whole.len() - 3], 1024), Err(InflateError::Broken));
        assert_eq!(inflate(b"{}", 1024), Err(InflateError::Broken));
    }
}
