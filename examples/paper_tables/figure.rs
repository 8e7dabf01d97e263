//! A figure as computed beside the figure as printed.

/// A number of a table, with two decimals there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figure {
    pub computed: f64,
    pub printed: f64,
}

impl Figure {
    /// Whether they have the same digits as far as the paper prints them.
    pub fn agrees(&self) -> bool {
        digits(self.computed) == digits(self.printed)
    }
}

/// As in the paper.
pub fn digits(figure: f64) -> String {
    format!("{figure:.2}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_digit_makes_a_difference() {
        let agrees = |computed, printed| Figure { computed, printed }.agrees();
        assert!(agrees(234.0961, 234.1) && agrees(5.4949, 5.49));
        for printed in [234.11, 234.09, 234.2, 235.1, 134.1, 23.41, 0.0] {
            assert!(!agrees(234.0961, printed), "{printed}");
        }
        assert!(!agrees(5.4951, 5.49) && !agrees(17064.8249, 17064.83));
        assert!(!agrees(f64::NAN, 1.0) && !agrees(f64::INFINITY, 1.0));
    }
}
