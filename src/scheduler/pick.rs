//! Whom to ask: pure.

/// The place of the smallest load; of equal ones the next in rotation. `None` stands for one that cannot be chosen.
pub fn pick(loads: impl ExactSizeIterator<Item = Option<u64>>, rotation: usize) -> Option<usize> {
    let count = loads.len().max(1);
    let turn = |place: usize| (place + count - rotation % count) % count;
    loads
        .enumerate()
        .filter_map(|(place, load)| load.map(|load| (load, turn(place), place)))
        .min()
        .map(|(_, _, place)| place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_equal_loads_the_next_in_rotation_is_picked() {
        assert_eq!(pick([Some(2), Some(1), None].into_iter(), 0), Some(1));
        assert_eq!(pick([Some(1), Some(1), Some(1)].into_iter(), 5), Some(2));
        assert_eq!(pick([None, None].into_iter(), 1), None);
    }
}
