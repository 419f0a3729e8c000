//! The weighted draw of identities: tokens that live longer are used more. Pure: the randomness comes in as an argument.

/// A token without a known end counts as one with ten minutes left, which is also when it is renewed.
pub(crate) const UNKNOWN_SECONDS: i64 = 600;
/// An identity without a token counts as one whose token has expired.
pub(crate) const NONE_SECONDS: i64 = -1;

/// The weight of each identity, by the seconds that its token has left. What lives longest in this company weighs
/// most, however short that is; but never what is over.
pub(crate) fn weights(lives: &[i64]) -> Vec<f64> {
    let longest = lives.iter().copied().max();
    lives
        .iter()
        .map(|&left| match left {
            _ if left < 0 => 0.10,
            _ if Some(left) == longest => 0.85,
            _ if left > 30 * MINUTE => 0.70,
            _ if left > 20 * MINUTE => 0.50,
            _ if left > 10 * MINUTE => 0.30,
            _ if left > 5 * MINUTE => 0.10,
            _ => 0.05,
        })
        .collect()
}

/// The place that a random number in 0..1 falls on, each with the share of its weight in the sum of all; `None` when
/// there are no weights.
pub(crate) fn draw(weights: &[f64], random: f64) -> Option<usize> {
    let mut left = weights.iter().sum::<f64>() * random.clamp(0.0, 1.0);
    for (place, weight) in weights.iter().enumerate() {
        if left < *weight {
            return Some(place);
        }
        left -= weight;
    }
    // The last one, where rounding has left a crumb.
    weights.len().checked_sub(1)
}

const MINUTE: i64 = 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s000_37_the_weights_in_their_order() {
        let minutes = |minutes: &[i64]| weights(&minutes.iter().map(|minutes| minutes * 60).collect::<Vec<_>>());
        assert_eq!(
            minutes(&[31, 60, 30, 21, 20, 11, 10, 6, 5, 0, -1]),
            [0.70, 0.85, 0.50, 0.50, 0.30, 0.30, 0.10, 0.10, 0.05, 0.05, 0.10]
        );
        assert_eq!(
            weights(&[1801, 1800, 1201, 1200, 601, 600, 301, 300, 9000]),
            [0.70, 0.50, 0.50, 0.30, 0.30, 0.10, 0.10, 0.05, 0.85]
        );
        assert_eq!(minutes(&[-1, -90]), [0.10, 0.10], "all of them are over");
        assert_eq!(minutes(&[-1, 3]), [0.10, 0.85], "the longest, however short");
        assert_eq!(minutes(&[40, 40, 4]), [0.85, 0.85, 0.05], "several may be the longest");
        assert_eq!(weights(&[UNKNOWN_SECONDS, 1201, NONE_SECONDS]), [0.10, 0.85, 0.10]);
        assert_eq!(weights(&[UNKNOWN_SECONDS; 3]), [0.85; 3]);
        assert_eq!(weights(&[]), [0.0; 0]);
    }

    #[test]
    fn s000_38_a_draw_falls_by_the_share_in_the_sum() {
        let weights = [0.3, 0.85, 0.7];
        // Shares of 16.2, 45.9 and 37.8 %.
        for (random, place) in
            [(0.0, 0), (0.16, 0), (0.163, 1), (0.62, 1), (0.622, 2), (0.999_999_999, 2), (1.0, 2), (7.0, 2), (-1.0, 0)]
        {
            assert_eq!(draw(&weights, random), Some(place), "{random}");
        }
        assert_eq!(draw(&[0.05], 0.9), Some(0));
        assert_eq!(draw(&[], 0.5), None);
    }
}
