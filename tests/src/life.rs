//! A life that ends with the power, at each of its calls in turn.

use duralog::{
    Config, Log,
    faulty::{FaultyDevice, Keep, Medium, Plan, UnsyncedOp},
};

/// More calls than such a life makes.
const CALLS: u64 = 40;

/// Lives on copies of a medium, each until the power goes at another call; of what is unsynced then, that is left which `keep`
/// says. What is left opens, and misses nothing. Returns whether the life was ever done.
///
/// # Panics
///
/// If something is missed; `name` tells where.
pub fn misses_nothing(
    name: &str,
    (medium, plan): (&Medium, &Plan),
    config: &Config,
    keep: impl Fn(&UnsyncedOp) -> Keep,
    live: impl Fn(FaultyDevice) -> bool,
) -> bool {
    let mut done = false;
    for cut in 0..CALLS {
        let medium = medium.snapshot();
        medium.set_plan(Plan { cut_at_call: Some(cut), ..plan.clone() });
        done |= live(medium.device());
        medium.power_cut(&keep);
        let log = Log::open_device(medium.device(), config.clone());
        let trace = medium.trace();
        assert!(log.is_ok(), "{name}, call {cut}: {:?}\n{trace}", log.err());
        assert_eq!(log.unwrap().recovery().damage().next(), None, "{name}, call {cut}\n{trace}");
    }
    done
}
