//! How many files this process may open, which sockets are, and who gets how many of them.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{
    gateway::admission::places::Room,
    limits::{DESCRIPTORS_MIN, DESCRIPTORS_OWN},
};

/// Takes as many as the system allows; many systems give 1,024 to whoever does not ask for more.
pub fn raise() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        // Some systems refuse what they call no limit; what there is will do.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    }
}

/// How many this process may open.
pub fn available() -> usize {
    let current = getrlimit(Resource::Nofile).current;
    current.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

/// How many connections each of the two listeners takes of so many descriptors; `None` if they are too few. A quarter of
/// what the node does not need itself is left for its own connections to peers.
pub(super) fn room(available: usize) -> Option<Room> {
    let shared = available.checked_sub(DESCRIPTORS_OWN).filter(|_| available >= DESCRIPTORS_MIN)?;
    Some(Room::within(shared / 8 * 3))
}

/// What to do for more.
pub const HOW: &str =
    "`ulimit -n` of the shell, LimitNOFILE of systemd and `--ulimit nofile` of Docker raise the limit";

/// What an operator is to know of so little room.
pub(super) fn warning(room: Room) -> Option<String> {
    (room != Room::MOST).then(|| {
        format!(
            "this process may open {} files at once: it takes {} connections for gRPC and as many for HTTP, instead of {}; {HOW}",
            available(),
            room.places,
            Room::MOST.places
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_listeners_and_the_lanes_find_room_in_whatever_there_is() {
        for available in DESCRIPTORS_MIN..30_000 {
            let Room { places, reserved } = room(available).unwrap();
            let left = available - DESCRIPTORS_OWN - 2 * (places + reserved);
            assert!(left >= (available - DESCRIPTORS_OWN) / 4, "{available}");
            assert!(places >= 3 * reserved && reserved >= 6, "{available}");
        }
        assert_eq!(room(DESCRIPTORS_MIN - 1), None);
        assert_eq!(room(1 << 20), Some(Room::MOST));
        assert_eq!(room(usize::MAX), Some(Room::MOST));
    }
}
