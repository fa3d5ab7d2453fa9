//! What etcd stores: one line of revisions, leases by its own clock, and what watches are told.

use std::{collections::BTreeMap, time::Duration};

use super::WorldTime;
use crate::{
    Identity,
    lease::{Holder, News, Registration, Told},
};

/// There is no such lease.
#[derive(Debug)]
pub struct NoLease;

#[derive(Default)]
pub struct Store {
    pub revision: i64,
    members: BTreeMap<u64, Registration>,
    leader: Option<Holder>,
    /// What was granted, and until when it lives.
    leases: BTreeMap<i64, (Duration, WorldTime)>,
    granted: i64,
    /// All that happened and of which revision it is, the revision rising.
    log: Vec<(i64, News)>,
    /// What happened up to there is forgotten.
    pub compacted: i64,
}

impl Store {
    pub fn grant(&mut self, now: WorldTime, ttl: Duration) -> i64 {
        self.granted += 1;
        self.leases.insert(self.granted, (ttl, now + ttl));
        self.granted
    }

    /// The time that is granted anew; none if it is gone.
    pub fn keep_alive(&mut self, now: WorldTime, id: i64) -> Duration {
        match self.leases.get_mut(&id) {
            Some((ttl, ends)) if now < *ends => {
                *ends = now + *ttl;
                *ttl
            }
            Some(_) => {
                let _ = self.revoke(id);
                Duration::ZERO
            }
            None => Duration::ZERO,
        }
    }

    pub fn lives(&self, now: WorldTime, id: i64) -> bool {
        self.leases.get(&id).is_some_and(|(_, ends)| now < *ends)
    }

    /// In one revision all its keys go.
    pub fn revoke(&mut self, id: i64) -> Result<(), NoLease> {
        self.leases.remove(&id).ok_or(NoLease)?;
        let led = self.leader.take_if(|holder| holder.lease == id).is_some();
        let gone = self.members.extract_if(.., |_, member| member.lease == id);
        let gone: Vec<u64> = gone.map(|(boot, _)| boot).collect();
        self.revision += i64::from(led || !gone.is_empty());
        if led {
            self.log.push((self.revision, News::Leads(self.who_leads())));
        }
        self.log.extend(gone.into_iter().map(|boot| (self.revision, News::Unregistered(boot))));
        Ok(())
    }

    pub fn expire(&mut self, now: WorldTime) {
        let ended = self.leases.iter().filter(|(_, (_, ends))| now >= *ends).map(|(id, _)| *id);
        for id in ended.collect::<Vec<_>>() {
            let _ = self.revoke(id);
        }
    }

    /// etcd has another leader: each lease lives for its whole time once more.
    pub fn extend(&mut self, now: WorldTime) {
        self.leases.values_mut().for_each(|(ttl, ends)| *ends = (*ends).max(now + *ttl));
    }

    pub fn register(&mut self, node: Identity, lease: i64) -> Result<(), NoLease> {
        self.begin_write(lease)?;
        let registration = Registration { node, lease, revision: self.revision };
        self.members.insert(registration.node.boot, registration.clone());
        self.log.push((self.revision, News::Registered(registration)));
        Ok(())
    }

    /// Who holds the leader's key, as of now.
    pub fn who_leads(&self) -> Told {
        Told { holder: self.leader.clone(), revision: self.revision }
    }

    pub fn all(&self) -> (Vec<Registration>, Told) {
        (self.members.values().cloned().collect(), self.who_leads())
    }

    /// Writes the leader's key if it is of this revision, 0 for one that is not there; says who holds it then. A lease is
    /// looked at only where the key is written.
    pub fn put_leader_if(&mut self, revision: i64, holder: Holder) -> Result<Told, NoLease> {
        if self.leader.as_ref().map_or(0, |held| held.revision) == revision {
            self.put_leader(holder)?;
        }
        Ok(self.who_leads())
    }

    pub fn put_leader(&mut self, holder: Holder) -> Result<(), NoLease> {
        self.begin_write(holder.lease)?;
        self.leader = Some(Holder { revision: self.revision, ..holder });
        self.log.push((self.revision, News::Leads(self.who_leads())));
        Ok(())
    }

    /// What happened from a revision on, up to another one.
    pub fn between(&self, from: i64, upto: i64) -> impl Iterator<Item = &News> {
        let first = self.log.partition_point(|(revision, _)| *revision < from);
        self.log[first..].iter().take_while(move |(revision, _)| *revision <= upto).map(|(_, news)| news)
    }

    fn begin_write(&mut self, lease: i64) -> Result<(), NoLease> {
        self.leases.get(&lease).ok_or(NoLease)?;
        self.revision += 1;
        Ok(())
    }
}
