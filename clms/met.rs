// SPDX-License-Identifier: GPL-2.0

//! Who was a member before this node: what a node has to know to number the transitions of its first view as others do.
//! Nothing here sends, waits or locks.

use crate::state::Phase;
use kernel::prelude::*;

/// How another node was met in its present life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum Met {
    /// Not heard yet.
    #[default]
    Never,
    /// It waits to become a member.
    Joining(u64),
    /// It waited, and this was the first view in which it was heard as a member.
    JoinedIn(u64, u64),
    /// It was a member when it was first heard.
    Member(u64),
}

impl Met {
    /// A heartbeat of that life came, with that phase and view.
    pub(crate) fn heard(self, incarnation: u64, phase: Phase, view: u64) -> Self {
        match (self, phase) {
            (_, Phase::Joining) => Self::Joining(incarnation),
            (Self::Joining(i), _) if i == incarnation => Self::JoinedIn(i, view),
            (Self::JoinedIn(i, _) | Self::Member(i), _) if i == incarnation => self,
            _ => Self::Member(incarnation),
        }
    }

    /// Whether it was a member before `view`, of which both are members.
    ///
    /// A node promises a view when it hears every member of it, so who joins by it was heard waiting, and who was a member before was
    /// heard as that: but for one that became a member by the view before, and has not said so yet, as it says that with its next beat.
    pub(crate) fn was_member_before(self, view: u64) -> bool {
        match self {
            Self::Never | Self::Joining(_) => false,
            Self::JoinedIn(_, first) => first < view,
            Self::Member(_) => true,
        }
    }
}

#[kunit_tests(ssi_clms_met)]
mod tests {
    use super::*;

    #[test]
    fn who_was_a_member_before() {
        let all = |heartbeats: &[(u64, Phase, u64)]| {
            let mut met = Met::default();
            for (incarnation, phase, view) in heartbeats {
                met = met.heard(*incarnation, *phase, *view);
            }
            met
        };
        let (joining, up, leaving) = (Phase::Joining, Phase::Up, Phase::Leaving);
        for (heartbeats, before_5) in [
            (&[][..], false),
            (&[(1, joining, 0)], false),
            (&[(1, joining, 0), (1, up, 5)], false),
            (&[(1, joining, 0), (1, up, 5), (1, up, 6)], false),
            (&[(1, joining, 0), (1, up, 6)], false),
            (&[(1, joining, 0), (1, up, 4), (1, up, 5)], true),
            (&[(1, up, 4)], true),
            (&[(1, up, 4), (1, leaving, 4)], true),
            // Another life.
            (&[(1, up, 4), (2, joining, 0)], false),
            (&[(1, up, 4), (2, joining, 0), (2, up, 5)], false),
            (&[(1, joining, 0), (2, up, 4)], true),
        ] {
            assert_eq!(all(heartbeats).was_member_before(5), before_5);
        }
    }
}
