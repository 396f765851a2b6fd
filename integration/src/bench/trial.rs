//! Measuring in turns: every piece of work is done by both servers, again and again.

use crate::failure::Failure;
use crate::interrupt;
use crate::net::Network;
use crate::progress;

use super::limits::{self, Probe};
use super::report::{Comparison, Figure, Spread};

/// One of the two servers that are compared.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Side {
    /// The program under test.
    Netbe,
    /// The one it is compared with.
    Peer,
}

/// A piece of work that both servers do.
#[derive(Debug)]
pub(super) struct Trial<W> {
    /// What comes out of it: a figure's name for each number that the work gives.
    pub(super) names: Vec<String>,
    /// What is to be done.
    pub(super) work: W,
}

/// Measures netbe beside a program with a name and a version, and by `probes` what its network allows before and after.
pub(super) fn compare<W>(
    network: &Network,
    probes: &[Probe],
    trials: &[Trial<W>],
    (peer, version): (&'static str, String),
    run: impl FnMut(Side, &W) -> Result<Vec<f64>, Failure>,
) -> Result<Comparison, Failure> {
    let limits = limits::begin(network, probes)?;
    let figures = alternate(trials, ROUNDS, run)?;
    let limits = limits::end(network, limits)?;
    Ok(Comparison { peer, version, figures, limits })
}

/// Does every trial once to warm up and `rounds` times for the figures.
///
/// Who is first changes with each round, so that what grows or tires hits both alike.
fn alternate<W>(
    trials: &[Trial<W>],
    rounds: usize,
    mut run: impl FnMut(Side, &W) -> Result<Vec<f64>, Failure>,
) -> Result<Vec<Figure>, Failure> {
    let mut samples: Vec<[Vec<Vec<f64>>; 2]> = trials.iter().map(|_| Default::default()).collect();
    for round in 0..=rounds {
        let what =
            if round == 0 { "warming up".to_owned() } else { format!("round {round} of {rounds}") };
        let step = progress::step(&what);
        for (trial, [netbe, peer]) in trials.iter().zip(&mut samples) {
            let order =
                if round % 2 == 0 { [Side::Netbe, Side::Peer] } else { [Side::Peer, Side::Netbe] };
            for side in order {
                interrupt::check()?;
                let values = run(side, &trial.work)?;
                if round > 0 {
                    match side {
                        Side::Netbe => netbe.push(values),
                        Side::Peer => peer.push(values),
                    }
                }
            }
        }
        step.done("done");
    }
    let mut figures = Vec::new();
    for (trial, [netbe, peer]) in trials.iter().zip(&samples) {
        for (place, name) in trial.names.iter().enumerate() {
            let column = |side: &[Vec<f64>]| {
                Spread::of(side.iter().filter_map(|values| values.get(place).copied()))
            };
            figures.push(Figure { name: name.clone(), netbe: column(netbe), peer: column(peer) });
        }
    }
    Ok(figures)
}

/// How often each trial is measured with each server.
const ROUNDS: usize = 5;

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn both_sides_do_the_same_work_equally_often() {
        let trials = [Trial { names: vec!["x".to_owned()], work: 3.0 }];
        let mut order = Vec::new();
        let figures = alternate(&trials, 3, |side, work| {
            order.push(side);
            Ok(vec![if side == Side::Netbe { *work } else { 2.0 * work }])
        });
        let figures = figures.unwrap();
        assert_eq!(order.iter().filter(|side| **side == Side::Netbe).count(), 4);
        assert_eq!(order.iter().filter(|side| **side == Side::Peer).count(), 4);
        assert_eq!(figures.iter().map(Figure::ratio).collect::<Vec<_>>(), [Some(0.5)]);
    }

    #[test]
    fn the_first_round_does_not_count() {
        let trials = [Trial { names: vec!["x".to_owned()], work: () }];
        let mut calls = 0.0;
        let figures = alternate(&trials, 1, |_side, ()| {
            calls += 1.0;
            Ok(vec![if calls < 3.0 { 1000.0 } else { 1.0 }])
        });
        assert_eq!(figures.unwrap().iter().map(Figure::ratio).collect::<Vec<_>>(), [Some(1.0)]);
    }
}
