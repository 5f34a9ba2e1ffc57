//! Numbers as JavaScript prints them.

use std::io::{self, Write};

use serde_json::ser::{CompactFormatter, Formatter};

/// Writes a finite number as `Number.prototype.toString` lays it out.
pub(super) fn write_f64<W>(writer: &mut W, number: f64) -> io::Result<()>
where
    W: Write + ?Sized,
{
    lay_out(writer, |printed| CompactFormatter.write_f64(printed, number))
}

/// The same with the digits that give the same `f32` back.
pub(super) fn write_f32<W>(writer: &mut W, number: f32) -> io::Result<()>
where
    W: Write + ?Sized,
{
    lay_out(writer, |printed| CompactFormatter.write_f32(printed, number))
}

/// Takes the digits that somebody prints and lays them out as JavaScript does.
///
/// The digits are serde_json's, which are those of JavaScript: the fewest that give the number back, of these the
/// closest, of these the even ones. The standard library rounds up where two are equally close.
fn lay_out<W>(writer: &mut W, print: impl FnOnce(&mut &mut [u8]) -> io::Result<()>) -> io::Result<()>
where
    W: Write + ?Sized,
{
    let mut printed = [0; PRINTED];
    let mut room = &mut printed[..];
    print(&mut room)?;
    let len = PRINTED - room.len();
    let number = Decimal::parse(&printed[..len]);
    match number.digits() {
        // Also of the negative zero.
        [] => writer.write_all(b"0"),
        digits => {
            writer.write_all(if number.is_negative { b"-" } else { b"" })?;
            write_digits(writer, digits, number.point)
        }
    }
}

/// Writes digits whose point stands behind so many of them.
fn write_digits<W>(writer: &mut W, digits: &[u8], point: i32) -> io::Result<()>
where
    W: Write + ?Sized,
{
    match point {
        1..=21 => {
            let (before, after) = digits.split_at(digits.len().min(point as usize));
            writer.write_all(before)?;
            writer.write_all(&ZEROS[..point as usize - before.len()])?;
            if after.is_empty() {
                return Ok(());
            }
            writer.write_all(b".")?;
            writer.write_all(after)
        }
        -5..=0 => {
            writer.write_all(b"0.")?;
            writer.write_all(&ZEROS[..point.unsigned_abs() as usize])?;
            writer.write_all(digits)
        }
        _ => {
            let (first, rest) = digits.split_at(1);
            writer.write_all(first)?;
            if !rest.is_empty() {
                writer.write_all(b".")?;
                writer.write_all(rest)?;
            }
            let exponent = point - 1;
            let sign = if exponent < 0 { '-' } else { '+' };
            write!(writer, "e{sign}{}", exponent.unsigned_abs())
        }
    }
}

/// A number as a sign, digits without zeros at either end, and where the point stands.
struct Decimal {
    is_negative: bool,
    digits: [u8; PRINTED],
    start: usize,
    end: usize,
    /// How many of the digits stand before the point; negative when there are zeros between the point and them.
    point: i32,
}

impl Decimal {
    /// Takes apart what has an optional sign, digits, perhaps a point and digits, perhaps an exponent.
    fn parse(printed: &[u8]) -> Self {
        let (is_negative, printed) = match printed.strip_prefix(b"-") {
            Some(rest) => (true, rest),
            None => (false, printed),
        };
        let e = printed.iter().position(|byte| matches!(byte, b'e' | b'E')).unwrap_or(printed.len());
        let exponent = printed.get(e + 1..).and_then(|digits| std::str::from_utf8(digits).ok());
        let exponent: i32 = exponent.and_then(|digits| digits.parse().ok()).unwrap_or_default();
        let mantissa = &printed[..e];
        let before = mantissa.iter().position(|byte| *byte == b'.').unwrap_or(e);
        let mut number =
            Self { is_negative, digits: [0; PRINTED], start: 0, end: 0, point: before as i32 + exponent };
        for digit in mantissa.iter().filter(|byte| **byte != b'.') {
            number.digits[number.end] = *digit;
            number.end += 1;
        }
        let zeros =
            |digits: &mut dyn Iterator<Item = &u8>| digits.take_while(|digit| **digit == b'0').count();
        number.start = zeros(&mut number.digits().iter());
        number.point -= number.start as i32;
        number.end -= zeros(&mut number.digits().iter().rev());
        number
    }

    fn digits(&self) -> &[u8] {
        &self.digits[self.start..self.end]
    }
}

/// The longest that serde_json prints has 24 bytes, `-1.7976931348623157e+308`; what does not fit is an error.
const PRINTED: usize = 32;

const ZEROS: &[u8; 21] = b"000000000000000000000";
