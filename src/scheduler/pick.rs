//! Whom to ask: pure.

/// The place of the smallest load; of equal ones the next in rotation. `None` stands for one that cannot be chosen.
///
/// ```
/// use primacy::scheduler::pick::pick;
/// assert_eq!(pick([Some(2), Some(1), None].into_iter(), 0), Some(1));
/// assert_eq!(pick([Some(1), Some(1), Some(1)].into_iter(), 5), Some(2));
/// ```
pub fn pick(loads: impl ExactSizeIterator<Item = Option<u64>>, rotation: usize) -> Option<usize> {
    let count = loads.len().max(1);
    let turn = |place: usize| (place + count - rotation % count) % count;
    loads
        .enumerate()
        .filter_map(|(place, load)| load.map(|load| (load, turn(place), place)))
        .min()
        .map(|(_, _, place)| place)
}
