//! How good scores are as guesses of a label.

/// The score from which on a guess is positive.
pub const THRESHOLD: f64 = 0.5;

/// The share of the samples whose guess is the label; NaN without samples.
pub fn accuracy(scores: &[f64], positive: &[bool]) -> f64 {
    let right = scores.iter().zip(positive).filter(|(score, positive)| (**score >= THRESHOLD) == **positive).count();
    right as f64 / scores.len() as f64
}

/// The area under the receiver operating characteristic: the chance that a positive scores higher than a negative, both drawn
/// at random, where a tie counts half. `None` if there are no positives, or no negatives.
///
/// By the sum of the positives' ranks (Mann and Whitney); samples of the same score share their mean rank.
pub fn auc(scores: &[f64], positive: &[bool]) -> Option<f64> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_unstable_by(|&left, &right| scores[left].total_cmp(&scores[right]));
    let positives = positive.iter().filter(|positive| **positive).count() as f64;
    let negatives = scores.len() as f64 - positives;
    let (mut rank_sum, mut below) = (0.0, 0.0);
    for tied in order.chunk_by(|&left, &right| scores[left] == scores[right]) {
        let mean_rank = below + (tied.len() as f64 + 1.0) / 2.0;
        rank_sum += mean_rank * tied.iter().filter(|&&sample| positive[sample]).count() as f64;
        below += tied.len() as f64;
    }
    let wins = rank_sum - positives * (positives + 1.0) / 2.0;
    (positives > 0.0 && negatives > 0.0).then(|| wins / (positives * negatives))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn closed_forms() {
        let (scores, positive) = ([0.1, 0.4, 0.35, 0.8], [false, false, true, true]);
        assert_eq!((auc(&scores, &positive), accuracy(&scores, &positive)), (Some(0.75), 0.75));
        assert_eq!(auc(&[0.2, 0.9], &[false, true]), Some(1.0));
        assert_eq!(auc(&[0.9, 0.2], &[false, true]), Some(0.0));
        assert_eq!(auc(&[0.5; 7], &[true, false, true, false, false, true, true]), Some(0.5));
        assert_eq!(auc(&[-0.0, 0.0], &[false, true]), Some(0.5));
        assert_eq!((auc(&[0.1, 0.2], &[true; 2]), auc(&[0.1], &[false]), auc(&[], &[])), (None, None, None));
        // A guess at the threshold is positive.
        assert_eq!(accuracy(&[0.5, 0.5], &[true, false]), 0.5);
    }

    proptest! {
        #[test]
        fn auc_is_the_share_of_pairs_won(samples in prop::collection::vec((0..12_u8, any::<bool>()), 0..60)) {
            let (scores, positive): (Vec<f64>, Vec<bool>) =
                samples.iter().map(|&(score, positive)| (f64::from(score) / 11.0, positive)).unzip();
            let (mut won, mut pairs) = (0.0, 0.0);
            for (above, _) in samples.iter().filter(|(_, positive)| *positive) {
                for (below, _) in samples.iter().filter(|(_, positive)| !*positive) {
                    pairs += 1.0;
                    won += match above.cmp(below) {
                        std::cmp::Ordering::Greater => 1.0,
                        std::cmp::Ordering::Equal => 0.5,
                        std::cmp::Ordering::Less => 0.0,
                    };
                }
            }
            match auc(&scores, &positive) {
                Some(area) => prop_assert!((area - won / pairs).abs() < 1e-12),
                None => prop_assert_eq!(pairs, 0.0),
            }
        }
    }
}
