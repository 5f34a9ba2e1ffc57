//! Two machines within one: network namespaces with a cable between them, which end when the test does, in whatever way.
//!
//! ```text
//!   left 192.0.2.1 ──cable────────cable── right 192.0.2.2
//! ```
//!
//! A namespace without a name lives as long as something is in it. Here that is a process which reads its input: it ends
//! with the handle, and with the test's own process even if that is killed. Nothing is left to be cleaned up, and as
//! nobody else is in there, addresses and ports need not be free elsewhere.

use std::{
    env,
    fmt::Display,
    io::{self, BufRead, BufReader, Read, Write},
    process::{Child, Command, Stdio},
    sync::Once,
};

/// Set to anything but nothing and 0, it makes the lack of namespaces a failure.
const REQUIRED: &str = "IPC_REQUIRE_NETWORKS";

/// Two machines that reach each other.
#[derive(Debug)]
pub(crate) struct Machines {
    pub(crate) left: Machine,
    pub(crate) right: Machine,
}

impl Machines {
    /// Two new machines; or `None`, which has been told on stderr, when this system cannot have them.
    ///
    /// # Panics
    ///
    /// When it cannot, and `IPC_REQUIRE_NETWORKS` is set.
    pub(crate) fn new() -> Option<Self> {
        // Root has the right to make them, unless it is that of a container. Others can get it in a user namespace.
        let attempts = [Rights::Ours, Rights::OfOwnUserNamespace].map(Self::build);
        let mut reasons = Vec::new();
        for attempt in attempts {
            match attempt {
                Ok(machines) => return Some(machines),
                Err(reason) => reasons.push(reason),
            }
        }
        lacking(format_args!("no network namespaces ({})", reasons.join("; ")))
    }

    fn build(rights: Rights) -> Result<Self, String> {
        let left = Machine::start("192.0.2.1", rights.to_begin(), rights)?;
        let right = Machine::start("192.0.2.2", rights.to_follow(&left), rights)?;
        let cable = format!("link add cable type veth peer name cable netns {}\n", right.anchor.id());
        left.run(&IP, &cable)?;
        for machine in [&left, &right] {
            let address = machine.address;
            machine
                .run(&IP, &format!("link set lo up\naddr add {address}/30 dev cable\nlink set cable up\n"))?;
        }
        Ok(Self { left, right })
    }
}

/// By whose rights namespaces are made and entered.
#[derive(Debug, Clone, Copy)]
enum Rights {
    Ours,
    OfOwnUserNamespace,
}

impl Rights {
    /// What starts the first machine.
    fn to_begin(self) -> Vec<String> {
        match self {
            Self::Ours => strings(["unshare", "--net"]),
            Self::OfOwnUserNamespace => strings(["unshare", "--user", "--map-root-user", "--net"]),
        }
    }

    /// What starts the second one: the same rights must hold for both.
    fn to_follow(self, first: &Machine) -> Vec<String> {
        match self {
            Self::Ours => self.to_begin(),
            Self::OfOwnUserNamespace => {
                let mut launcher = first.entered(&["--user", "--preserve-credentials"]);
                launcher.extend(strings(["unshare", "--net"]));
                launcher
            }
        }
    }
}

/// One of the machines.
#[derive(Debug)]
pub(crate) struct Machine {
    address: &'static str,
    rights: Rights,
    anchor: Child,
}

impl Machine {
    /// Its address on the cable.
    pub(crate) fn address(&self) -> &'static str {
        self.address
    }

    /// What starts a process on this machine.
    pub(crate) fn launcher(&self) -> Vec<String> {
        match self.rights {
            Rights::Ours => self.entered(&["--net"]),
            Rights::OfOwnUserNamespace => self.entered(&["--user", "--preserve-credentials", "--net"]),
        }
    }

    /// Of 100 packets that reach it that many are dropped, at random. `None`, which has been told on stderr, when this
    /// system cannot do that.
    ///
    /// # Panics
    ///
    /// When it cannot, and `IPC_REQUIRE_NETWORKS` is set.
    pub(crate) fn rain(&self, percent: u8) -> Option<()> {
        let rules = format!(
            "table ip weather {{\nchain rain {{\ntype filter hook input priority 0\n\
             numgen random mod 100 < {percent} drop\n}}\n}}\n"
        );
        match self.run(&["nft", "-f", "-"], &rules) {
            Ok(()) => Some(()),
            Err(reason) => lacking(format_args!("no packet filter of nftables ({reason})")),
        }
    }

    pub(crate) fn unplug(&self) {
        self.ip("link set cable down\n");
    }

    pub(crate) fn plug_in(&self) {
        self.ip("link set cable up\n");
    }

    /// From now on packets to the other machine end here.
    pub(crate) fn lose_the_way(&self) {
        self.ip("route replace blackhole 192.0.2.0/30\n");
    }

    pub(crate) fn find_the_way(&self) {
        self.ip(&format!("route replace 192.0.2.0/30 dev cable src {}\n", self.address));
    }

    fn start(address: &'static str, mut launcher: Vec<String>, rights: Rights) -> Result<Self, String> {
        // Its first line says that the namespace is made; what it reads never comes.
        launcher.extend(strings(["sh", "-c", "echo here && exec cat"]));
        let mut anchor = command(&launcher).spawn().map_err(|error| format!("{}: {error}", launcher[0]))?;
        let mut line = String::new();
        let output = anchor.stdout.take().expect("it is piped");
        let outcome = BufReader::new(output).read_line(&mut line);
        let machine = Self { address, rights, anchor };
        match outcome {
            Ok(_) if line == "here\n" => Ok(machine),
            _ => Err(machine.complaint()),
        }
    }

    /// What it said of its failure.
    fn complaint(mut self) -> String {
        drop(self.anchor.stdin.take());
        let mut complaint = String::new();
        let errors = self.anchor.stderr.as_mut().expect("it is piped");
        match errors.read_to_string(&mut complaint) {
            Ok(_) => complaint.trim().to_owned(),
            Err(error) => error.to_string(),
        }
    }

    fn entered(&self, namespaces: &[&str]) -> Vec<String> {
        let mut launcher = strings(["nsenter", "--target"]);
        launcher.push(self.anchor.id().to_string());
        launcher.extend(namespaces.iter().copied().map(str::to_owned));
        launcher
    }

    fn ip(&self, orders: &str) {
        self.run(&IP, orders).unwrap();
    }

    /// Runs a program on this machine, with this input, to its end.
    fn run(&self, program: &[&str], input: &str) -> Result<(), String> {
        let mut launcher = self.launcher();
        launcher.extend(program.iter().copied().map(str::to_owned));
        let failed = |error: io::Error| format!("{}: {error}", program[0]);
        let mut child = command(&launcher).spawn().map_err(failed)?;
        // One that ends without reading says why, below.
        let _ = child.stdin.take().expect("it is piped").write_all(input.as_bytes());
        let output = child.wait_with_output().map_err(failed)?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        if output.status.success() { Ok(()) } else { Err(format!("{}: {}", program[0], complaint.trim())) }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // It has ended, or ends now; either way it is reaped.
        let _ = self.anchor.kill();
        let _ = self.anchor.wait();
    }
}

/// Orders come over standard input, one in a line; the first one that fails ends it.
const IP: [&str; 3] = ["ip", "-batch", "-"];

fn command(words: &[String]) -> Command {
    let mut command = Command::new(&words[0]);
    // The tools of administrators are not everybody's to find.
    let path = format!("{}:/usr/sbin:/sbin", env::var("PATH").unwrap_or_default());
    command.args(&words[1..]).env("PATH", path);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn strings<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(str::to_owned).to_vec()
}

/// Says, once, that tests show nothing here.
fn lacking<T>(what: impl Display) -> Option<T> {
    let required = env::var(REQUIRED).is_ok_and(|value| !matches!(value.as_str(), "" | "0"));
    assert!(!required, "{REQUIRED} is set, and this system has {what}");
    static TOLD: Once = Once::new();
    TOLD.call_once(|| {
        // Past the test harness, which would show it for failures alone.
        let _ = writeln!(
            io::stderr(),
            "SKIPPED: tests of ports between machines show nothing here, as this system has {what}; \
             {REQUIRED}=1 makes that a failure"
        );
    });
    None
}
