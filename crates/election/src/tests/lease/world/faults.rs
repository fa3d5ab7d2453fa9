//! What befalls processes, roads and etcd.

use rand::RngExt;

use super::{
    super::{lease::Order, ms, node::Node, plan::Fault},
    Event, Place, World,
};

impl World {
    pub fn befall(&mut self, fault: Fault) {
        self.say(|| format!("{fault:?}"));
        match fault {
            Fault::Pause(place, time) => {
                let until = self.now + time;
                self.places[place].paused_until = until;
                self.nodes[place].iter_mut().for_each(|node| node.up_since = until);
            }
            Fault::Kill(place, down) => self.kill(place, Some(down)),
            Fault::Stop(place, down) => {
                let exit = ms(self.random.random_range(1_000..2_500));
                let Some(node) = &mut self.nodes[place] else { return };
                node.lease_state.order(Order::Stop);
                let boot = node.me.boot;
                self.turn(place);
                self.push(self.now + exit, Event::Exit(place, boot, Some(down)));
            }
            Fault::Transfer(to) => {
                let leads =
                    |node: &Option<Node>| node.as_ref().is_some_and(|node| node.leads(self.now).is_some());
                let leader = self.nodes.iter().position(leads);
                let to = self.nodes[to].as_ref().filter(|node| node.me.id.is_some()).map(|node| node.me.boot);
                let (Some(place), Some(boot)) = (leader, to) else { return };
                if let Some(node) = self.nodes[place].as_mut().filter(|node| node.me.boot != boot) {
                    node.lease_state.order(Order::Transfer(boot));
                    self.turn(place);
                }
            }
            Fault::Cut(place, time, is_silent) => {
                self.places[place].cut_until = self.now + time;
                self.places[place].is_silent = is_silent;
                self.break_watch(place);
            }
            Fault::Twin(of, time) => {
                let Place { id, .. } = self.places[of];
                let place = self.places.len();
                self.places.push(Place { id, is_twin: true, rate: 1.0, ..Place::default() });
                self.nodes.push(None);
                self.start(place);
                self.push(self.now + time, Event::Exit(place, self.boots, None));
            }
            Fault::Outage(time, extends) => {
                self.down_until = self.now + time;
                self.push(self.down_until, Event::Back(extends));
                for place in 0..self.nodes.len() {
                    self.break_watch(place);
                }
            }
            Fault::Compact => {
                self.store.compacted = self.store.revision;
                for place in 0..self.nodes.len() {
                    self.break_watch(place);
                }
            }
            Fault::Break(place) => self.break_watch(place),
        }
    }
}
