//! Numbers as people read them.

/// A whole number with its thousands marked: `12,345`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number with two or three significant digits, and none after the point from 100 on.
pub(crate) fn rate(number: f64) -> String {
    let size = number.abs();
    if size >= 100.0 {
        count(number.round() as u64)
    } else if size >= 10.0 {
        format!("{number:.1}")
    } else if size >= 0.1 || size == 0.0 {
        format!("{number:.2}")
    } else if size >= 0.01 {
        format!("{number:.3}")
    } else {
        format!("{number:.4}")
    }
}

/// Milliseconds: `52.1 ms`.
pub(crate) fn ms(number: f64) -> String {
    format!("{} ms", rate(number))
}

/// Bytes in units of 1024: `48.2 MiB`.
pub(crate) fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", rate(bytes as f64 / f64::from(1 << 20)))
}

/// `1 user`, `2 users`.
pub(crate) fn plural(number: u64, one: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{} {one}{ending}", count(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        for (number, expect) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")]
        {
            assert_eq!(count(number), expect);
        }
        for (number, expect) in
            [(0.0, "0.00"), (0.0314, "0.031"), (0.59, "0.59"), (52.13, "52.1"), (1840.4, "1,840")]
        {
            assert_eq!(rate(number), expect);
        }
        assert_eq!(mebibytes(50 << 20), "50.0 MiB");
        assert_eq!((plural(1, "user"), plural(2, "user")), ("1 user".into(), "2 users".into()));
    }
}
