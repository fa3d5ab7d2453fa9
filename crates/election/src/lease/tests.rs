//! The lease, step by step; `crate::tests::lease` runs it under seeded faults.

use super::*;

const TTL: Duration = Duration::from_secs(3);

fn at(ms: u64) -> Time {
    Time::at(Duration::from_millis(ms))
}

fn node(id: u32, boot: u64) -> Identity {
    let grpc_addr = format!("n{id}:1").into();
    Identity { id: Some(id), boot, grpc_addr, ..Identity::default() }
}

fn registration(id: u32, boot: u64, revision: i64) -> Registration {
    Registration { node: node(id, boot), lease: boot.cast_signed(), revision }
}

fn holder(id: u32, boot: u64, revision: i64) -> Holder {
    Holder { node: node(id, boot), lease: boot.cast_signed(), revision, transferred: false }
}

fn vacant(revision: i64) -> Told {
    Told { holder: None, revision }
}

fn told(holder: Holder) -> Told {
    Told { revision: holder.revision, holder: Some(holder) }
}

/// Node 2 among 1 and 4, registered at 0 under the lease 2.
fn lease_state() -> LeaseState {
    let mut lease_state = LeaseState::new(Arc::new(node(2, 2)));
    assert_eq!(lease_state.next(at(0), &[]), Next::Do(Step::Grant));
    lease_state.take(at(0), at(0), &Step::Grant, Ok(StepOutcome::Granted { lease: 2, ttl: TTL }));
    let register = Step::Register { lease: 2 };
    assert_eq!(lease_state.next(at(0), &[]), Next::Do(register.clone()));
    lease_state.take(at(0), at(0), &register, Ok(StepOutcome::Registered));
    renew(&mut lease_state, 0, 0, vacant(2));
    let members = vec![registration(1, 1, 1), registration(2, 2, 2), registration(4, 4, 3)];
    lease_state.hear(at(0), News::Listed(members, vacant(3)));
    lease_state
}

fn renew(lease_state: &mut LeaseState, sent: u64, heard: u64, who: Told) {
    let step = Step::Renew { lease: 2 };
    assert_eq!(lease_state.next(at(sent), &[]), Next::Do(step.clone()));
    lease_state.take(at(heard), at(sent), &step, Ok(StepOutcome::Renewed { ttl: TTL, told: who }));
}

/// It leads from 550 on, by revision 4.
fn leading() -> LeaseState {
    let mut lease_state = lease_state();
    let campaign = Step::Campaign { lease: 2 };
    assert_eq!(lease_state.next(at(550), &[]), Next::Do(campaign.clone()));
    lease_state.take(at(550), at(550), &campaign, Ok(StepOutcome::Told(told(holder(2, 2, 4)))));
    lease_state
}

fn leads(lease_state: &LeaseState, now: u64) -> bool {
    let recognised = lease_state.recognised(at(now));
    recognised.leader == Some((node(2, 2), 4)) && at(now) < recognised.until
}

#[test]
fn the_lower_id_tries_later() {
    let mut lease_state = lease_state();
    assert_eq!(lease_state.next(at(1), &[]), Next::WaitUntil(at(550)), "one id is higher");
    lease_state.hear(at(1), News::Unregistered(4));
    assert_eq!(lease_state.next(at(1), &[]), Next::WaitUntil(at(500)), "none is");
    lease_state.hear(at(2), News::Leads(told(holder(1, 1, 4))));
    assert_eq!(lease_state.next(at(900), &[]), Next::WaitUntil(at(1000)), "somebody leads");
    lease_state.hear(at(900), News::Leads(vacant(5)));
    assert_eq!(lease_state.next(at(900), &[]), Next::Do(Step::Campaign { lease: 2 }));
}

#[test]
fn who_has_no_id_never_leads() {
    let mut lease_state = lease_state();
    lease_state.me = Arc::new(Identity { id: None, ..node(2, 2) });
    assert_eq!(lease_state.next(at(900), &[]), Next::WaitUntil(at(1000)));
}

#[test]
fn a_lease_counts_from_before_it_was_asked_for_and_with_a_margin() {
    let mut lease_state = leading();
    assert!(leads(&lease_state, 2399));
    assert!(!leads(&lease_state, 2400));
    renew(&mut lease_state, 1000, 1400, told(holder(2, 2, 4)));
    assert!(leads(&lease_state, 3399));
    assert!(!leads(&lease_state, 3400));
    // After a silence it leads again only if the key is still its own.
    renew(&mut lease_state, 3900, 3900, told(holder(4, 4, 5)));
    assert!(!leads(&lease_state, 3901));
}

#[test]
fn lives_that_joined_together_renew_apart() {
    let renewals = |boot| {
        let (is_registered, is_vouched, is_abandoned) = (true, true, false);
        Lease { id: 1, ttl: TTL, sent: at(0), is_registered, is_vouched, is_abandoned }.renew_at(boot)
    };
    assert_eq!(renewals(0), at(1000));
    assert_eq!(renewals(1 << 63), Time::at(Duration::from_micros(937_500)));
    assert!((at(875)..at(876)).contains(&renewals(u64::MAX)));
}

#[test]
fn a_lease_that_is_gone_is_replaced_by_another_and_leads_no_more() {
    let mut lease_state = leading();
    let step = Step::Renew { lease: 2 };
    lease_state.take(
        at(9000),
        at(9000),
        &step,
        Ok(StepOutcome::Renewed { ttl: Duration::ZERO, told: vacant(9) }),
    );
    assert!(!leads(&lease_state, 9000));
    assert_eq!(lease_state.next(at(9000), &[]), Next::Do(Step::Grant));
    lease_state.take(at(9000), at(9000), &Step::Grant, Ok(StepOutcome::Granted { lease: 3, ttl: TTL }));
    assert_eq!(lease_state.recognised(at(9000)).until, Time::ZERO, "a grant vouches for nothing");
    lease_state.hear(at(9000), News::Leads(told(holder(2, 2, 10))));
    assert!(lease_state.recognised(at(9000)).leader.is_none(), "the key of a former lease is not relied on");
}

#[test]
fn what_came_by_a_slower_road_is_no_news() {
    let mut lease_state = leading();
    lease_state.hear(at(600), News::Leads(vacant(3)));
    assert!(leads(&lease_state, 600));
    lease_state.hear(at(600), News::Leads(vacant(5)));
    assert!(!leads(&lease_state, 600));
}

fn to(id: u32, boot: u64) -> Step {
    Step::HandOver { mine: 4, to: holder(id, boot, 0) }
}

#[test]
fn a_higher_id_that_is_healthy_for_ten_seconds_leads() {
    let mut lease_state = leading();
    for sent in [2500, 5000, 7500, 10_000] {
        renew(&mut lease_state, sent, sent, told(holder(2, 2, 4)));
    }
    let fit = |since: u64| [Fit { boot: 1, since: at(0) }, Fit { boot: 4, since: at(since) }];
    assert_eq!(
        lease_state.next(at(10_500), &fit(0)),
        Next::WaitUntil(at(11_000)),
        "it has led for too short a time"
    );
    assert_eq!(lease_state.next(at(10_600), &fit(700)), Next::WaitUntil(at(11_000)));
    assert_eq!(lease_state.next(at(10_600), &fit(600)), Next::Do(to(4, 4)));
    assert!(!leads(&lease_state, 10_600), "from before it is asked");
    lease_state.take(at(10_610), at(10_600), &to(4, 4), Err(StepFailure::LeaseGone));
    assert!(leads(&lease_state, 10_610), "nothing was done");
    assert_eq!(lease_state.next(at(10_710), &fit(600)), Next::WaitUntil(at(11_000)), "not again at once");
}

#[test]
fn who_does_not_know_whether_it_handed_over_gives_up_its_lease() {
    let mut lease_state = leading();
    lease_state.order(Order::Transfer(1));
    let step = Step::HandOver { mine: 4, to: Holder { transferred: true, ..holder(1, 1, 0) } };
    assert_eq!(lease_state.next(at(600), &[]), Next::Do(step.clone()));
    lease_state.take(at(700), at(600), &step, Err(StepFailure::Unknown));
    assert!(!leads(&lease_state, 700));
    assert_eq!(lease_state.next(at(700), &[]), Next::WaitUntil(at(800)));
    assert_eq!(lease_state.next(at(800), &[]), Next::Do(Step::Revoke { lease: 2 }));
    lease_state.take(at(900), at(800), &Step::Revoke { lease: 2 }, Err(StepFailure::Unknown));
    assert!(!leads(&lease_state, 900));
    lease_state.take(at(999), at(900), &Step::Revoke { lease: 2 }, Ok(StepOutcome::Revoked));
    assert_eq!(lease_state.next(at(1000), &[]), Next::Do(Step::Grant));
}

#[test]
fn who_stops_hands_over_leaves_and_does_not_return() {
    let mut lease_state = leading();
    lease_state.order(Order::Stop);
    assert_eq!(lease_state.next(at(600), &[Fit { boot: 1, since: at(0) }]), Next::Do(to(1, 1)));
    lease_state.take(at(610), at(600), &to(1, 1), Ok(StepOutcome::Told(told(holder(1, 1, 5)))));
    assert_eq!(lease_state.next(at(610), &[]), Next::Do(Step::Revoke { lease: 2 }));
    lease_state.take(at(620), at(610), &Step::Revoke { lease: 2 }, Ok(StepOutcome::Revoked));
    assert_eq!(lease_state.next(at(620), &[]), Next::WaitUntil(FOREVER));
}

#[test]
fn a_newcomer_with_an_id_that_is_taken_does_not_lead_and_goes() {
    let mut lease_state = lease_state();
    let twin =
        Registration { node: Identity { grpc_addr: "other:1".into(), ..node(2, 9) }, lease: 9, revision: 1 };
    lease_state.hear(at(0), News::Registered(twin));
    assert_eq!(lease_state.next(at(900), &[]), Next::WaitUntil(at(1000)), "it does not try to lead");
    assert_eq!(lease_state.recognised(at(9_999)).taken, None, "a lease may still run out");
    assert_eq!(lease_state.recognised(at(10_000)).taken.as_deref(), Some("other:1"));
    lease_state.hear(at(0), News::Unregistered(9));
    assert_eq!(lease_state.recognised(at(10_000)).taken, None);
}

#[test]
fn who_is_not_registered_any_more_registers_again() {
    let mut lease_state = leading();
    lease_state.hear(at(600), News::Unregistered(2));
    lease_state.hear(at(600), News::Registered(registration(2, 2, 9)));
    renew(&mut lease_state, 1000, 1000, told(holder(2, 2, 4)));
    assert_eq!(lease_state.next(at(1000), &[]), Next::WaitUntil(at(2000)), "that was of a former lease");
    lease_state.hear(at(1500), News::Unregistered(2));
    renew(&mut lease_state, 2000, 2000, told(holder(2, 2, 4)));
    assert_eq!(lease_state.next(at(2000), &[]), Next::Do(Step::Register { lease: 2 }));
    assert!(leads(&lease_state, 2000));
}

#[test]
fn a_lease_that_was_kept_alive_unheard_is_given_up() {
    let mut lease_state = leading();
    let step = Step::Renew { lease: 2 };
    for sent in [1000, 1600, 2200, 2800] {
        assert_eq!(lease_state.next(at(sent), &[]), Next::Do(step.clone()));
        lease_state.take(at(sent + 500), at(sent), &step, Err(StepFailure::Unknown));
    }
    assert_eq!(lease_state.next(at(3400), &[]), Next::Do(Step::Revoke { lease: 2 }));
}

#[test]
fn an_etcd_that_lost_its_data_is_begun_with_anew() {
    let mut lease_state = leading();
    renew(&mut lease_state, 1000, 1000, told(holder(4, 4, 50)));
    let step = Step::Renew { lease: 2 };
    assert_eq!(lease_state.next(at(2000), &[]), Next::Do(step.clone()));
    // A watch may be ahead of an answer, and no store was lost.
    lease_state.hear(at(2000), News::Leads(told(holder(4, 4, 52))));
    lease_state.take(at(2000), at(2000), &step, Ok(StepOutcome::Renewed { ttl: TTL, told: vacant(51) }));
    assert_eq!(lease_state.told, told(holder(4, 4, 52)));
    assert_eq!(lease_state.next(at(3000), &[]), Next::Do(step.clone()));
    lease_state.take(
        at(3000),
        at(3000),
        &step,
        Ok(StepOutcome::Renewed { ttl: Duration::ZERO, told: vacant(2) }),
    );
    assert!(lease_state.recognised(at(3000)).leader.is_none());
    assert_eq!(lease_state.next(at(3000), &[]), Next::Do(Step::Grant));
    lease_state.take(at(3000), at(3000), &Step::Grant, Ok(StepOutcome::Granted { lease: 3, ttl: TTL }));
    let register = Step::Register { lease: 3 };
    assert_eq!(lease_state.next(at(3000), &[]), Next::Do(register.clone()));
    lease_state.take(at(3000), at(3000), &register, Ok(StepOutcome::Registered));
    let renewal = Step::Renew { lease: 3 };
    assert_eq!(lease_state.next(at(3000), &[]), Next::Do(renewal.clone()));
    lease_state.take(at(3000), at(3000), &renewal, Ok(StepOutcome::Renewed { ttl: TTL, told: vacant(3) }));
    assert_eq!(lease_state.next(at(3500), &[]), Next::Do(Step::Campaign { lease: 3 }), "nobody leads there");
}

#[test]
fn what_etcd_refuses_was_not_done() {
    let mut lease_state = leading();
    lease_state.order(Order::Transfer(1));
    let Next::Do(step) = lease_state.next(at(600), &[]) else { panic!("it hands over") };
    lease_state.take(at(700), at(600), &step, Err(StepFailure::Refused));
    assert!(leads(&lease_state, 700));
}

#[test]
fn nobody_without_an_id_is_handed_the_key() {
    let mut lease_state = leading();
    let worker = Registration { node: Identity { id: None, ..node(7, 7) }, lease: 7, revision: 5 };
    lease_state.hear(at(600), News::Registered(worker));
    lease_state.order(Order::Transfer(7));
    assert_eq!(lease_state.next(at(600), &[]), Next::WaitUntil(at(1000)));
}

#[test]
fn of_two_lives_at_one_address_the_newer_one_counts() {
    let mut lease_state = lease_state();
    lease_state.hear(at(0), News::Registered(registration(4, 5, 9)));
    let boots: Vec<u64> = lease_state.recognised(at(0)).members.iter().map(|node| node.boot).collect();
    assert_eq!(boots, [1, 2, 5]);
}
