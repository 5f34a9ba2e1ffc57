//! Namings that break one promise each.

use async_trait::async_trait;
use ipc_testkit::{
    MemTransport,
    conformance::naming::{Subject, broken_promises},
};
use ipc_transport::{
    Endpoint, Error, ListenOptions, Listener, NameWatch, Naming, StaticNaming, Transport, Transports,
};

use super::{
    Bite, assert_all_covered, mem,
    transport::{self, Mutant},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    CloseKeepsTheName,
    KnowsEverybody,
    ResolvesElsewhere,
    SecondClaimElsewhere,
    WatchIsDeaf,
}

const BITES: &[Bite<How>] = &[
    Bite {
        mutant: How::ResolvesElsewhere,
        about: "a_claimed_name_resolves",
        says: "tells what others are to dial",
        also: &["a_second_claim_is_refused", "a_closed_claim_frees_the_name"],
    },
    Bite {
        mutant: How::SecondClaimElsewhere,
        about: "a_second_claim_is_refused",
        says: "the name is held",
        also: &[],
    },
    Bite {
        mutant: How::CloseKeepsTheName,
        about: "a_closed_claim_frees_the_name",
        says: "nobody holds the name",
        also: &[],
    },
    Bite {
        mutant: How::KnowsEverybody,
        about: "an_unknown_name_is_not_found",
        says: "nobody has this name",
        also: &[],
    },
    Bite {
        mutant: How::WatchIsDeaf,
        about: "a_watch_ends_when_a_name_appears",
        says: "did not end",
        also: &[],
    },
];

#[tokio::test(start_paused = true)]
async fn broken_namings_fail_at_the_promises_that_they_break() {
    let mut complaints = Vec::new();
    for bite in BITES {
        complaints.extend(bite.complaint(&broken_promises(|| subject(bite.mutant)).await));
    }
    assert!(complaints.is_empty(), "{complaints:#?}");
}

#[test]
fn every_promise_of_a_naming_is_broken_by_some_mutant() {
    assert_all_covered::<Subject, _>(BITES);
}

fn subject(how: How) -> Subject {
    let sound = StaticNaming::new().with("a", mem("a"));
    let transports = match how {
        How::CloseKeepsTheName => with(Mutant::new(transport::How::CloseKeepsTheName)),
        How::SecondClaimElsewhere => with(Mutant::new(transport::How::SecondListenerElsewhere)),
        _ => with(MemTransport::new()),
    };
    let subject = Subject::new(Lying { how, sound }, transports, "a");
    // A table whose entry never changes cannot tell, and this one does not say so.
    if how == How::WatchIsDeaf { subject } else { subject.without_watch() }
}

fn with(transport: impl Transport) -> Transports {
    Transports::none().with(transport)
}

/// A table, but for one thing.
#[derive(Debug)]
struct Lying {
    how: How,
    sound: StaticNaming,
}

#[async_trait]
impl Naming for Lying {
    async fn claim(
        &self,
        name: &str,
        transports: &Transports,
        options: &ListenOptions,
    ) -> Result<Box<dyn Listener>, Error> {
        self.sound.claim(name, transports, options).await
    }

    async fn resolve(&self, name: &str) -> Result<Endpoint, Error> {
        match (self.how, self.sound.resolve(name).await) {
            (How::KnowsEverybody, Err(_)) => Ok(mem(name)),
            (How::ResolvesElsewhere, Ok(_)) => Ok(mem("elsewhere")),
            (_, outcome) => outcome,
        }
    }

    fn watch(&self, name: &str) -> Result<Box<dyn NameWatch>, Error> {
        self.sound.watch(name)
    }
}
