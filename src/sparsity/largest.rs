//! The most important channels.

use std::cmp::Ordering;

/// Larger before smaller, NaN before any number.
pub(super) fn descending(a: f64, b: f64) -> Ordering {
    b.is_nan()
        .cmp(&a.is_nan())
        .then(b.partial_cmp(&a).unwrap_or(Ordering::Equal))
}

/// The indices of the `count` largest, ascending, in O(n); the lower index first among equals.
pub(crate) fn largest(importance: &[f64], count: usize) -> Vec<usize> {
    let n = importance.len();
    if count == 0 || count >= n {
        return (0..count.min(n)).collect();
    }
    let mut order: Vec<usize> = (0..n).collect();
    let rank = |&a: &usize, &b: &usize| descending(importance[a], importance[b]).then(a.cmp(&b));
    order.select_nth_unstable_by(count - 1, rank);
    order.truncate(count);
    order.sort_unstable();
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_go_to_the_lower_index_and_nan_is_kept() {
        assert_eq!(largest(&[1.0, 2.0, 2.0, 2.0, 0.0], 2), [1, 2]);
        assert_eq!(largest(&[0.0; 4], 3), [0, 1, 2]);
        assert_eq!(largest(&[5.0, 1.0, f64::NAN], 1), [2]);
    }

    #[test]
    fn agrees_with_a_full_sort() {
        let importance: Vec<f64> = (0..97).map(|i| ((i * 37) % 23) as f64).collect();
        for count in 1..=97 {
            let mut order: Vec<usize> = (0..97).collect();
            order.sort_by(|&a, &b| importance[b].total_cmp(&importance[a]).then(a.cmp(&b)));
            let mut expected = order[..count].to_vec();
            expected.sort();
            assert_eq!(largest(&importance, count), expected);
        }
    }
}
