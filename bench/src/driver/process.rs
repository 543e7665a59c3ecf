//! Processes that are measured: what they cost, and that they end.

use std::{
    collections::HashMap,
    fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

/// A server that was started here; it ends with this value.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    log: PathBuf,
}

impl Server {
    /// Starts a server and waits until it accepts connections.
    pub(crate) fn start(command: &mut Command, address: SocketAddr, log: &Path) -> Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let out = fs::File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let mut server = Self {
            child,
            address,
            log: log.to_owned(),
        };
        let begun = Instant::now();
        while std::net::TcpStream::connect(address).is_err() {
            let ended = server.child.try_wait()?;
            if ended.is_some() || begun.elapsed() > START {
                bail!(
                    "{name} did not start: {}",
                    fs::read_to_string(&server.log).unwrap_or_default()
                );
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(server)
    }

    /// Seconds of CPU that the process and its children have used.
    pub(crate) fn cpu(&self) -> f64 {
        let ticks: u64 = family(self.child.id()).into_iter().filter_map(ticks).sum();
        ticks as f64 / TICKS_PER_SECOND
    }

    /// Begins a new reading of [`Server::peak_mib`].
    pub(crate) fn reset_peak(&self) {
        for process in family(self.child.id()) {
            // "5" sets the peak back to what is in use.
            let _ = fs::write(format!("/proc/{process}/clear_refs"), "5");
        }
    }

    /// The most memory that the process and its children have had since [`Server::reset_peak`], in MiB.
    pub(crate) fn peak_mib(&self) -> f64 {
        self.memory("VmHWM:")
    }

    /// What they have now.
    pub(crate) fn resident_mib(&self) -> f64 {
        self.memory("VmRSS:")
    }

    fn memory(&self, field: &str) -> f64 {
        let kib = |process: u32| -> Option<f64> {
            let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
            let line = status.lines().find_map(|line| line.strip_prefix(field))?;
            line.trim().trim_end_matches("kB").trim().parse().ok()
        };
        family(self.child.id()).into_iter().filter_map(kib).sum::<f64>() / 1024.0
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Children first: a launcher that is killed leaves them behind.
        for process in family(self.child.id()).into_iter().rev() {
            let _ = Command::new("kill").arg(process.to_string()).status();
        }
        let begun = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && begun.elapsed() < STOP {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A free port on loopback.
pub(crate) fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?)
}

/// What the whole machine does: seconds of CPU that were busy since it started.
pub(crate) fn machine_cpu() -> f64 {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let first = stat.lines().next().unwrap_or_default();
    let fields: Vec<u64> = first
        .split_whitespace()
        .skip(1)
        .filter_map(|field| field.parse().ok())
        .collect();
    // user, nice, system, idle, iowait, irq, softirq, steal
    let busy: u64 = [0, 1, 2, 5, 6, 7].iter().filter_map(|index| fields.get(*index)).sum();
    busy as f64 / TICKS_PER_SECOND
}

/// Seconds of CPU that this process and all that it has started have used.
pub(crate) fn own_cpu() -> f64 {
    let ticks: u64 = family(std::process::id()).into_iter().filter_map(ticks).sum();
    ticks as f64 / TICKS_PER_SECOND
}

/// The load averages of 1, 5 and 15 minutes.
pub(crate) fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

/// The processor's name, and how many there are.
pub(crate) fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("unknown", |rest| rest.trim_start_matches([' ', '\t', ':']));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{cores} x {name}")
}

/// A process and its children, and theirs.
fn family(root: u32) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(process) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if let Some(parent) = fields(process).and_then(|fields| fields.get(1)?.parse().ok()) {
            children.entry(parent).or_default().push(process);
        }
    }
    let mut found = vec![root];
    let mut index = 0;
    while let Some(process) = found.get(index) {
        found.extend(children.remove(process).unwrap_or_default());
        index += 1;
    }
    found
}

/// User and system time, those of children that have ended left out.
fn ticks(process: u32) -> Option<u64> {
    let fields = fields(process)?;
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some(number(11)? + number(12)?)
}

/// The fields of /proc/N/stat behind the name, which may have blanks in it.
fn fields(process: u32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    Some(rest.split_whitespace().map(str::to_owned).collect())
}

/// USER_HZ, which is 100 on every Linux that this runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// How long a server may take to listen: a component that was never compiled takes a while.
const START: Duration = Duration::from_secs(120);

/// How long a server may take to end.
const STOP: Duration = Duration::from_secs(5);
