//! The tray against a queue that is obviously right, by scripts of two clerks and one reader.

use std::num::NonZeroUsize;

use ipc_testkit::{
    oracle::BoundedFifo,
    proptest::{self, prelude::*},
    strategy::{payloads, scripts},
};
use outside_queue::office;

#[derive(Debug, Clone)]
enum Operation {
    Close,
    Lay(Vec<u8>),
    Take,
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        1 => Just(Operation::Close),
        20 => payloads(300).prop_map(Operation::Lay),
        15 => Just(Operation::Take),
    ]
}

const CLERKS: NonZeroUsize = NonZeroUsize::new(2).unwrap();

proptest::proptest! {
    #[test]
    fn every_script_agrees_with_the_oracle(
        capacity in (1..5_usize).prop_map(|capacity| NonZeroUsize::new(capacity).unwrap()),
        script in scripts(CLERKS, operation(), 100),
    ) {
        let (desk, mut tray) = office(capacity).unwrap();
        let desks = [desk.clone(), desk];
        let mut oracle = BoundedFifo::new(capacity);
        for step in script {
            match step.operation {
                Operation::Close => {
                    tray.close();
                    oracle.close();
                }
                Operation::Lay(letter) => {
                    prop_assert_eq!(desks[step.actor].lay(letter.clone()), oracle.push(letter));
                }
                Operation::Take => prop_assert_eq!(tray.take(), oracle.pop()),
            }
        }
    }
}
