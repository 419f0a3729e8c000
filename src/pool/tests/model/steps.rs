//! Events of a pool, as random steps.

use super::*;

#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    Lease { usage: Usage, tried: u8 },
    Finish { which: usize, end: End },
    Report { which: usize, end: End },
    FirstContent { which: usize },
    Wait { seconds: u64 },
    Token { which: usize, state: Token },
    Reset { which: usize },
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum End {
    Success,
    Fault,
    Limited,
    LimitedFor,
    Quota,
    Challenged,
    Unauthorized,
    Refused,
    Neutral,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Token {
    Ready,
    Missing(u64),
    Dead,
}

fn ends() -> impl Strategy<Value = End> {
    prop_oneof![
        6 => Just(End::Success),
        14 => Just(End::Fault),
        2 => Just(End::Limited),
        1 => Just(End::LimitedFor),
        1 => Just(End::Quota),
        1 => Just(End::Challenged),
        1 => Just(End::Unauthorized),
        3 => Just(End::Refused),
        4 => Just(End::Neutral),
    ]
}

pub(super) fn steps() -> impl Strategy<Value = Step> {
    let which = 0..8_usize;
    let token = prop_oneof![
        4 => Just(Token::Ready),
        2 => (1..100_u64).prop_map(Token::Missing),
        1 => Just(Token::Dead),
    ];
    let usage = prop_oneof![3 => Just(Usage::Chat), 1 => Just(Usage::Image), 2 => Just(Usage::Video), 1 => Just(Usage::Research)];
    prop_oneof![
        12 => usage.clone().prop_map(|usage| Step::Lease { usage, tried: 0 }),
        4 => (usage, any::<u8>()).prop_map(|(usage, tried)| Step::Lease { usage, tried }),
        14 => (which.clone(), ends()).prop_map(|(which, end)| Step::Finish { which, end }),
        1 => (which.clone(), ends()).prop_map(|(which, end)| Step::Report { which, end }),
        2 => which.clone().prop_map(|which| Step::FirstContent { which }),
        5 => prop::sample::select(vec![1, 4, 5, 30, 59, 60, 61, 299, 300, 600, 660, 3600])
            .prop_map(|seconds| Step::Wait { seconds }),
        2 => (which.clone(), token).prop_map(|(which, state)| Step::Token { which, state }),
        1 => which.prop_map(|which| Step::Reset { which }),
    ]
}
