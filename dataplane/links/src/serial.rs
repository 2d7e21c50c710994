//! Numbers that wrap around: transfer numbers, delivery numbers and counts (RFC 1982 with 32 bits; part 2, 2.8.10).

/// Whether `a` is before `b`. Two numbers half the range apart are in no order; this end never has that many.
pub(crate) fn is_before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

/// How far `to` is ahead of `from`; 0 if it is behind.
pub(crate) fn ahead(from: u32, to: u32) -> u32 {
    let distance = to.wrapping_sub(from);
    if (distance as i32) < 0 { 0 } else { distance }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_goes_on_over_the_end_of_the_range() {
        assert!(is_before(u32::MAX, 0) && is_before(u32::MAX - 3, 7) && !is_before(7, u32::MAX));
        assert_eq!((ahead(u32::MAX, 4), ahead(4, u32::MAX), ahead(9, 9)), (5, 0, 0));
    }
}
