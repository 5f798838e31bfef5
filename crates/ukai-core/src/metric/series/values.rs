//! Values of a chunk, without loss, in the smallest of five forms.
//!
//! Most measurements are decimals with few places: then they are whole numbers times a power of ten, and are kept as runs
//! of equal numbers (of just two numbers in turn: success and failure), as Golomb-Rice codes of the distance to the chunk's mean, or as such codes of the difference from the
//! number before. Anything else is kept as the bytes that differ from the value before.

use super::bytes::{BitReader, BitWriter, Corrupt, Cursor, put_varint, unzigzag, zigzag};

/// 2^51: a thousand such numbers can be added without overflow, and each is exact in a double.
const WHOLE_MAX: f64 = 2_251_799_813_685_248.0;
const ROUNDER: f64 = 6_755_399_441_055_744.0;
/// Ones in a row, after which a number is written in full: an outlier costs 11 bytes.
const ESCAPE: u32 = 24;
/// Decimals that are tried: microseconds in seconds, and two more.
const POWERS: [f64; 9] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8];

const RAW: u8 = 0;
const RUNS: u8 = 1;
const FROM_MEAN: u8 = 2;
const FROM_LAST: u8 = 3;
const TWO: u8 = 4;

/// Appends the values with their length, so that a reader can skip them.
pub(super) fn encode(values: &[f64], out: &mut Vec<u8>) {
    let mut body = Vec::with_capacity(values.len() * 2 + 8);
    match whole_numbers(values) {
        Some((decimals, numbers)) => encode_numbers(decimals, &numbers, &mut body),
        None => encode_raw(values, &mut body),
    }
    put_varint(out, body.len() as u64);
    out.extend_from_slice(&body);
}

/// Reads the values one after the other, without allocating.
#[derive(Debug, Clone)]
pub(super) enum Values<'a> {
    Raw { bytes: Cursor<'a>, last: u64 },
    Runs { bytes: Cursor<'a>, power: f64, value: f64, left: u64 },
    Two { bytes: Cursor<'a>, value: f64, other: f64, left: u64 },
    Coded { bits: BitReader<'a>, power: f64, low_bits: u32, base: i64, moving: bool },
}

impl<'a> Values<'a> {
    pub(super) fn read(body: &'a [u8]) -> Result<Values<'a>, Corrupt> {
        let mut bytes = Cursor(body);
        let form = bytes.byte()?;
        if form == RAW {
            return Ok(Values::Raw { bytes, last: 0 });
        }
        let power = *POWERS.get(usize::from(bytes.byte()?)).ok_or(Corrupt)?;
        if form == RUNS {
            return Ok(Values::Runs { bytes, power, value: 0.0, left: 0 });
        }
        if form == TWO {
            // The first run begins with the turn of the other.
            let other = unzigzag(bytes.varint()?) as f64 / power;
            let value = unzigzag(bytes.varint()?) as f64 / power;
            return Ok(Values::Two { bytes, value, other, left: 0 });
        }
        if form != FROM_MEAN && form != FROM_LAST {
            return Err(Corrupt);
        }
        let low_bits = u32::from(bytes.byte()?);
        if low_bits > 32 {
            return Err(Corrupt);
        }
        let base = unzigzag(bytes.varint()?);
        Ok(Values::Coded { bits: BitReader::new(bytes.0), power, low_bits, base, moving: form == FROM_LAST })
    }

    pub(super) fn next(&mut self) -> Result<f64, Corrupt> {
        match self {
            Values::Raw { bytes, last } => {
                *last ^= next_raw(bytes)?;
                Ok(f64::from_bits(*last))
            }
            Values::Runs { bytes, power, value, left } => {
                if *left == 0 {
                    *value = unzigzag(bytes.varint()?) as f64 / *power;
                    *left = bytes.varint()?;
                }
                *left = left.checked_sub(1).ok_or(Corrupt)?;
                Ok(*value)
            }
            Values::Two { bytes, value, other, left } => {
                if *left == 0 {
                    std::mem::swap(value, other);
                    *left = bytes.varint()?;
                }
                *left = left.checked_sub(1).ok_or(Corrupt)?;
                Ok(*value)
            }
            Values::Coded { bits, power, low_bits, base, moving } => {
                let number = base.wrapping_add(unzigzag(next_code(bits, *low_bits)?));
                if *moving {
                    *base = number;
                }
                Ok(number as f64 / *power)
            }
        }
    }
}

/// The values as whole numbers, if they all are decimals of few places.
fn whole_numbers(values: &[f64]) -> Option<(u8, Vec<i64>)> {
    let mut numbers = Vec::with_capacity(values.len());
    for (decimals, power) in POWERS.into_iter().enumerate() {
        numbers.clear();
        numbers.extend(values.iter().map_while(|value| whole_number(*value, power)));
        if numbers.len() == values.len() {
            return Some((decimals as u8, numbers));
        }
    }
    None
}

fn whole_number(value: f64, power: f64) -> Option<i64> {
    let scaled = value * power;
    // Adding and taking away 1.5 × 2^52 rounds to the nearest whole number; `round` is a slow call on old processors.
    let number = ((scaled + ROUNDER) - ROUNDER) as i64;
    // Through the integer, as reading does: -0.0 does not survive that.
    (scaled.abs() < WHOLE_MAX && (number as f64 / power).to_bits() == value.to_bits()).then_some(number)
}

fn encode_numbers(decimals: u8, numbers: &[i64], out: &mut Vec<u8>) {
    let count = numbers.len().max(1) as u64;
    let first = numbers.first().copied().unwrap_or(0);
    let mean = numbers.iter().sum::<i64>() / count as i64;
    let runs = 1 + numbers.windows(2).filter(|pair| pair[0] != pair[1]).count();
    let from_mean: u64 = numbers.iter().map(|number| zigzag(number - mean)).sum();
    let from_last: u64 = numbers.windows(2).map(|pair| zigzag(pair[1] - pair[0])).sum();
    let (form, base, distance) =
        if from_mean <= from_last { (FROM_MEAN, mean, from_mean) } else { (FROM_LAST, first, from_last) };
    let low_bits = low_bits(distance, count);
    // A run costs about three bytes; a code its low bits and about two more.
    if runs as u64 * 24 <= count * u64::from(low_bits + 2) {
        encode_runs(decimals, numbers, out);
        return;
    }
    out.extend_from_slice(&[form, decimals, low_bits as u8]);
    put_varint(out, zigzag(base));
    let mut bits = BitWriter::default();
    let mut base = base;
    for number in numbers {
        put_code(&mut bits, zigzag(number - base), low_bits);
        if form == FROM_LAST {
            base = *number;
        }
    }
    out.extend_from_slice(&bits.finish());
}

/// The best split of a number into ones and low bits is near log2(mean × ln 2) (Rice's rule).
fn low_bits(distance: u64, count: u64) -> u32 {
    let mean = distance as f64 / count as f64 * std::f64::consts::LN_2;
    if mean < 1.0 { 0 } else { (mean.log2().ceil() as u32).min(32) }
}

fn put_code(bits: &mut BitWriter, number: u64, low_bits: u32) {
    let high = number >> low_bits;
    if high < u64::from(ESCAPE) {
        bits.put((1 << high) - 1, high as u32 + 1);
        bits.put(number & ((1 << low_bits) - 1), low_bits);
    } else {
        bits.put((1 << ESCAPE) - 1, ESCAPE);
        bits.put(number & 0xffff_ffff, 32);
        bits.put(number >> 32, 32);
    }
}

fn next_code(bits: &mut BitReader<'_>, low_bits: u32) -> Result<u64, Corrupt> {
    let high = bits.ones(ESCAPE)?;
    if high < ESCAPE {
        return Ok(u64::from(high) << low_bits | bits.take(low_bits)?);
    }
    let low = bits.take(32)?;
    Ok(bits.take(32)? << 32 | low)
}

fn encode_runs(decimals: u8, numbers: &[i64], out: &mut Vec<u8>) {
    let first = numbers.first().copied().unwrap_or(0);
    let other = numbers.iter().copied().find(|number| *number != first).unwrap_or(first);
    if numbers.iter().all(|number| *number == first || *number == other) {
        out.extend_from_slice(&[TWO, decimals]);
        put_varint(out, zigzag(first));
        put_varint(out, zigzag(other));
        numbers.chunk_by(|a, b| a == b).for_each(|run| put_varint(out, run.len() as u64));
        return;
    }
    out.extend_from_slice(&[RUNS, decimals]);
    for run in numbers.chunk_by(|a, b| a == b) {
        put_varint(out, zigzag(run[0]));
        put_varint(out, run.len() as u64);
    }
}

/// A byte says how many zero bytes lead and trail; then come the others.
fn encode_raw(values: &[f64], out: &mut Vec<u8>) {
    out.push(RAW);
    let mut last = 0u64;
    for value in values {
        let changed = value.to_bits() ^ last;
        last = value.to_bits();
        let leading = changed.leading_zeros() as usize / 8;
        let trailing = if changed == 0 { 0 } else { changed.trailing_zeros() as usize / 8 };
        out.push((leading << 4 | trailing) as u8);
        out.extend_from_slice(&changed.to_be_bytes()[leading..8 - trailing]);
    }
}

fn next_raw(bytes: &mut Cursor<'_>) -> Result<u64, Corrupt> {
    let form = bytes.byte()?;
    let (leading, trailing) = (usize::from(form >> 4), usize::from(form & 15));
    let length = 8usize.checked_sub(leading + trailing).ok_or(Corrupt)?;
    let mut full = [0; 8];
    full[leading..leading + length].copy_from_slice(bytes.take(length)?);
    Ok(u64::from_be_bytes(full))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn round_trip(values: &[f64]) -> usize {
        let mut bytes = Vec::new();
        encode(values, &mut bytes);
        let mut cursor = Cursor(&bytes);
        let length = cursor.length(usize::MAX).unwrap();
        let mut read = Values::read(cursor.take(length).unwrap()).unwrap();
        for value in values {
            assert_eq!(read.next().unwrap().to_bits(), value.to_bits(), "{values:?}");
        }
        bytes.len()
    }

    #[test]
    fn each_form_is_small_where_it_fits() {
        assert!(round_trip(&[1.0; 1000]) < 10);
        assert!(round_trip(&(0..1000).map(f64::from).collect::<Vec<_>>()) < 400);
        let noisy: Vec<f64> = (0..1000u32).map(|n| f64::from(20_000 + n * 7919 % 8192) / 1000.0).collect();
        assert!(round_trip(&noisy) < 1850);
    }

    #[test]
    fn hard_values_come_back_bit_for_bit() {
        let most = 2f64.powi(360);
        round_trip(&[most, -most, 0.0, 1e-300, 0.1 + 0.2, 5e-324, -1.5]);
        round_trip(&[9e15, 0.001, -9e15]);
        round_trip(&[9_007_199_254_740_991.0, -9_007_199_254_740_991.0, 0.0]);
        round_trip(&[2_251_799_813_685_247.0, -2_251_799_813_685_247.0].repeat(500));
        round_trip(&[1.0, 1.0, 1e15, 1.0, -0.0]);
        round_trip(&[]);
        let stairs: Vec<f64> = (0..300).map(|n| f64::from(n / 50)).collect();
        assert!(round_trip(&stairs) < 25);
        let failures: Vec<f64> = (0..1000).map(|n| f64::from(u8::from(n % 100 != 7))).collect();
        assert!(round_trip(&failures) < 30);
    }

    proptest! {
        #[test]
        fn any_values_come_back(values in prop::collection::vec(any::<f64>(), 0..60)) {
            round_trip(&values);
        }

        #[test]
        fn any_decimals_come_back(numbers in prop::collection::vec(any::<i32>(), 0..60), decimals in 0usize..10) {
            round_trip(&numbers.iter().map(|n| f64::from(*n) / 10f64.powi(decimals as i32)).collect::<Vec<_>>());
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..60), form in 0u8..5) {
            let bytes = [&[form][..], &bytes].concat();
            if let Ok(mut values) = Values::read(&bytes) {
                for _ in 0..2000 {
                    if values.next().is_err() { break }
                }
            }
        }
    }
}
