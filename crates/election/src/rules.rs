//! The rules of Bully's hardened form, by name. A node keeps them all. Whoever doubts one, or a test of it, can run a
//! node that breaks it: `docs/election-mutants.md` has what notices that.

/// A rule of the election.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// A claim has a higher counter than all that were seen.
    ClaimsRise,
    /// A leader that is refused as stale claims anew.
    StaleClaimsAnew,
    /// Three missed heartbeats make a leader suspect.
    Suspicion,
    /// After a late wake-up all timers start anew: the silence was the node's own.
    LateWakeUp,
    /// A node that hears the leader answers a question with that leader.
    Veto,
    /// A node that hears its leader follows no higher claim.
    VetoOnReceipt,
    /// A peer that is silent is waited for.
    SilenceIsAwaited,
    /// A higher id's `ok` is waited for.
    OkIsAwaited,
    /// A node that is asked keeps its leader.
    AskingMovesNobody,
    /// The more ids are higher, the later a node asks.
    Rank,
    /// A higher candidate's question counts as its `ok`.
    QuestionIsOk,
    /// A new node waits for the others before it asks.
    BootWait,
    /// A node that waits so does not answer `ok`.
    NoOkAtBoot,
    /// A claim that names what it succeeds is accepted for it.
    HandOverIsNamed,
    /// A leader that stops hands over.
    HandOverAtStop,
    /// It tries the successors again.
    HandOverIsRetried,
    /// A node that stops does not claim.
    StoppingNeverClaims,
    /// A leader that hands over leads until the next one claims.
    LeadsUntilVictory,
    /// A node that hears another leader refuses a hand-over.
    HearingRefusesHandOver,
    /// Of two leaders that meet one hands over.
    MeetingHandsOver,
    /// A leader does not meet those that it succeeds.
    SucceededIsNotMet,
    /// The highest id leads again when it is healthy.
    HighestReturns,
    /// Dead peers are dialled on.
    DeadAreDialled,
    /// A node in another life is not the leader, or follower, that it was.
    OneLife,
    /// In a large cluster a node without a leader reaches for a few others.
    FewAreReached,
    /// The leader that is heard and not reached is dialled on.
    UnreachedIsReachedFor,
    /// A candidate asks a few at first.
    FewAreAskedAtFirst,
    /// It asks all before it claims.
    AllAreAsked,
    /// A node that hears of the leader asks it.
    LeaderIsAsked,
}

/// Which rules a node keeps: all of them, or for a trial all but one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rules {
    broken: Option<Rule>,
}

impl Rules {
    /// All of them.
    pub const ALL: Self = Self { broken: None };

    /// All but this one. A cluster of such nodes may have two leaders, or none.
    pub const fn all_but(rule: Rule) -> Self {
        Self { broken: Some(rule) }
    }

    /// Whether the rule is kept.
    pub(crate) fn keep(self, rule: Rule) -> bool {
        self.broken != Some(rule)
    }
}
