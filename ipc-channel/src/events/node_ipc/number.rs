//! Numbers as JavaScript prints them.

use std::fmt::{self, LowerExp, Write};
use std::io;

/// Writes a finite number with the shortest digits that give it back, as `Number.prototype.toString` lays them out.
pub(super) fn write_number<W>(writer: &mut W, number: impl LowerExp) -> io::Result<()>
where
    W: io::Write + ?Sized,
{
    let mut printed = Printed { bytes: [0; PRINTED], len: 0 };
    write!(printed, "{number:e}").map_err(io::Error::other)?;
    let printed = &printed.bytes[..printed.len];
    let (sign, printed) = match printed.strip_prefix(b"-") {
        Some(rest) => (&b"-"[..], rest),
        None => (&b""[..], printed),
    };
    // One digit, perhaps a point and further digits, `e`, the exponent.
    let e = printed.iter().position(|&byte| byte == b'e').unwrap_or(printed.len());
    let exponent = std::str::from_utf8(&printed[e..]).ok().and_then(|text| text.get(1..)?.parse().ok());
    let exponent: i32 = exponent.unwrap_or_default();
    let (first, rest) = (&printed[..1], printed.get(2..e).unwrap_or_default());
    if first == b"0" {
        // Also of the negative zero.
        return writer.write_all(b"0");
    }
    writer.write_all(sign)?;
    write_digits(writer, first, rest, exponent)
}

fn write_digits<W>(writer: &mut W, first: &[u8], rest: &[u8], exponent: i32) -> io::Result<()>
where
    W: io::Write + ?Sized,
{
    match exponent {
        0..=20 => {
            let before = rest.len().min(exponent as usize);
            writer.write_all(first)?;
            writer.write_all(&rest[..before])?;
            writer.write_all(&ZEROS[..exponent as usize - before])?;
            if before < rest.len() {
                writer.write_all(b".")?;
                writer.write_all(&rest[before..])?;
            }
            Ok(())
        }
        -6..=-1 => {
            writer.write_all(b"0.")?;
            writer.write_all(&ZEROS[..(-exponent - 1) as usize])?;
            writer.write_all(first)?;
            writer.write_all(rest)
        }
        _ => {
            writer.write_all(first)?;
            if !rest.is_empty() {
                writer.write_all(b".")?;
                writer.write_all(rest)?;
            }
            let sign = if exponent < 0 { '-' } else { '+' };
            write!(writer, "e{sign}{}", exponent.unsigned_abs())
        }
    }
}

/// A number as Rust prints it, at hand without an allocation.
struct Printed {
    bytes: [u8; PRINTED],
    len: usize,
}

impl fmt::Write for Printed {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let place = self.bytes.get_mut(self.len..self.len + text.len()).ok_or(fmt::Error)?;
        place.copy_from_slice(text.as_bytes());
        self.len += text.len();
        Ok(())
    }
}

/// The longest is `-1.7976931348623157e-308`, 24 bytes.
const PRINTED: usize = 32;

const ZEROS: &[u8; 20] = b"00000000000000000000";
