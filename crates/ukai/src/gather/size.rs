//! What one gathering may weigh: its event must fit a line of the control socket, whatever servers send.

use ukai_core::diagnose::evidence::{Asked, Outcome, Silence};

/// Messages in base64, all together: ten times what an honest peer with eight servers sends.
const WIRES_MAX: usize = 256 * 1024;
/// Addresses, all together: a peer with sixteen servers and thirty addresses has half of it.
const ADDRESSES_MAX: usize = 8192;

/// First come, first kept: our resolver, the authorities, the others. An answer that is too much is nonsense as a whole: cut to
/// fit, it would be another answer.
pub fn fit(asked: &mut [Asked]) {
    let (mut wires, mut addresses) = (0, 0);
    for asked in asked {
        let weight = asked.wire.as_ref().map_or(0, String::len);
        if wires + weight > WIRES_MAX {
            asked.wire = None;
        } else {
            wires += weight;
        }
        let count = asked.answer().map_or(0, |answer| answer.addresses.len());
        if addresses + count > ADDRESSES_MAX {
            let detail = format!("with it there would be more than {ADDRESSES_MAX} addresses");
            asked.outcome = Outcome::Silent { why: Silence::Malformed, detail };
        } else {
            addresses += count;
        }
    }
}
