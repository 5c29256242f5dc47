//! What code in a container cannot do.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Stdio;

use heddle::kernel::container::{Container, image};
use heddle::kernel::{Grants, KernelError, Launch, Launcher, Process};

use crate::host::{BASE, Host, heddle, with_host};

#[test]
fn there_is_no_network() {
    with_host(async |host| {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        // The probe itself works.
        std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        let place = host.place(&image::own_name()).await;
        let mut kernel = place.start().await;
        let code = format!(
            "
import os, socket
print(sorted(os.listdir('/sys/class/net')))
for address in [('127.0.0.1', {port}), ('1.1.1.1', 53)]:
    try: print(socket.create_connection(address, 3))
    except OSError as error: print(error.strerror)
try: print(socket.getaddrinfo('example.org', 80))
except OSError as error: print('no name')"
        );
        assert_eq!(
            kernel.printed(&code).await,
            "['lo']\nConnection refused\nNetwork is unreachable\nno name"
        );
        kernel.end().await;
    });
}

#[test]
fn the_kernel_has_no_privileges_and_a_root_that_cannot_be_changed() {
    with_host(async |host| {
        let place = host.place(&image::own_name()).await;
        let mut kernel = place.start().await;
        let code = "
import os
status = dict(line.split(':\\t', 1) for line in open('/proc/self/status').read().splitlines() if ':\\t' in line)
print(int(status['CapBnd'], 16), int(status['CapEff'], 16), status['NoNewPrivs'], status['Seccomp'])
for path in ['/etc/x', '/usr/bin/x', '/opt/heddle/x', '/x', '/run/heddle/x', '/run/x']:
    try: print(open(path, 'w'))
    except OSError as error: print(error.errno, end=' ')
print(os.path.exists('/var/run/docker.sock'), os.path.exists('/work'))
print(sum(name.isdigit() for name in os.listdir('/proc')) < 10)";
        assert_eq!(
            kernel.printed(code).await,
            "0 0 1 2\n30 30 30 30 13 30 False False\nTrue"
        );
        kernel.end().await;
    });
}

#[test]
fn processes_are_limited() {
    with_host(async |host| {
        let place = host.place(&image::own_name()).await;
        let mut kernel = place.start().await;
        let code = "
import os, signal
children = []
try:
    while len(children) < 1000:
        pid = os.fork()
        if pid == 0: signal.pause(); os._exit(0)
        children.append(pid)
except BlockingIOError: print('refused')
print(50 < len(children) < 128)
for pid in children: os.kill(pid, 9); os.waitpid(pid, 0)";
        assert_eq!(kernel.printed(code).await, "refused\nTrue");
        kernel.end().await;
    });
}

#[test]
fn sockets_cannot_be_swapped_once_the_kernel_is_there() {
    with_host(async |host| {
        let place = host.place(&image::own_name()).await;
        let mut kernel = place.start().await;
        let code = "
import os
for act in [lambda: os.unlink('/run/heddle/k-1'), lambda: os.symlink('/tmp', '/run/heddle/k-9'),
            lambda: os.chmod('/run/heddle', 0o777), lambda: os.listdir('/run/heddle')]:
    try: print(act())
    except PermissionError: print('refused', end=' ')";
        assert_eq!(
            kernel.printed(code).await,
            "refused refused refused refused"
        );
        kernel.end().await;
    });
}

const BRIDGE: &str = "10.213.74.1";

/// What a program prints in a container, with or without a network.
async fn printed(host: &Host, network: bool, code: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let process = started(host, network, code, folder.path()).await.unwrap();
    process.ended().await;
    process.tail()
}

async fn started(
    host: &Host,
    network: bool,
    code: &str,
    folder: &Path,
) -> Result<Box<dyn Process>, KernelError> {
    let engine = host.engine().await;
    let image = image::find(&engine, BASE).await.unwrap().unwrap();
    let container = Container::with(engine, image, Some("python3".into()), heddle());
    let launch = Launch {
        argv: ["python3", "-c", code].map(str::to_owned).into(),
        env: Vec::new(),
        cwd: folder.to_path_buf(),
        program: Vec::new(),
        grants: Grants {
            network,
            memory: 256 << 20,
            ..Grants::default()
        },
        folder: folder.join("run"),
    };
    std::fs::create_dir(&launch.folder).unwrap();
    container.launch(launch).await
}

#[test]
fn a_network_that_the_engine_has_not_is_refused() {
    with_host(async |host| {
        let folder = tempfile::tempdir().unwrap();
        let error = started(host, true, "1", folder.path()).await.err().unwrap();
        let said = error.to_string();
        assert!(
            said.contains("execution_service.network") && said.contains("--mode sandbox"),
            "{said}"
        );
    });
}

#[test]
fn a_network_is_there_where_it_was_granted_alone() {
    with_host(async |_| {
        let mut host = Host::start_with_network(BRIDGE);
        let serve = "
import socket
s = socket.create_server(('0.0.0.0', 7000)); print('ready', flush=True)
while True: s.accept()[0].sendall(b'reached')";
        let mut service = host.beside("python3");
        let service = service.args(["-c", serve]).stdout(Stdio::piped());
        let mut service = service.spawn().unwrap();
        let mut line = String::new();
        let output = service.stdout.take().unwrap();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut line).unwrap();
        let code = format!(
            "import socket; print(socket.create_connection(({BRIDGE:?}, 7000), 3).recv(9))"
        );
        let with = printed(&host, true, &code).await;
        assert!(with.contains("reached"), "{with}");
        let without = printed(&host, false, &code).await;
        assert!(without.contains("Network is unreachable"), "{without}");
        service.kill().unwrap();
        service.wait().unwrap();
        host.stop();
    });
}

#[test]
fn processors_are_limited() {
    with_host(async |host| {
        let mut place = host.place(&image::own_name()).await;
        place.grants.cpus = 0.25;
        let mut kernel = place.start().await;
        let code = "
import time
used, begun = time.process_time(), time.monotonic()
while time.monotonic() < begun + 2: pass
print(time.process_time() - used)";
        let used: f64 = kernel.printed(code).await.parse().unwrap();
        assert!((0.2..0.8).contains(&used), "{used} of 2 seconds");
        kernel.end().await;
    });
}

fn ran(host: &Host, args: &[&str], cwd: &Path, home: &Path, code: &str) -> (String, String) {
    let output = host
        .heddle(&["run", "--mode", "container", "-c", code])
        .args(args)
        .current_dir(cwd)
        .env("HOME", home)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn what_is_mounted_belongs_to_the_user_on_both_sides() {
    with_host(async |host| {
        let (cwd, home, other) = (
            tempfile::tempdir().unwrap(),
            tempfile::tempdir().unwrap(),
            tempfile::tempdir().unwrap(),
        );
        for name in ["read", "write"] {
            std::fs::create_dir(other.path().join(name)).unwrap();
            std::fs::write(other.path().join(name).join("given"), name).unwrap();
        }
        let path = |name: &str| other.path().join(name).to_string_lossy().into_owned();
        let (read, write) = (path("read"), path("write"));
        let code = format!(
            "
import os
for folder in [{read:?}, {write:?}]:
    print(open(folder + '/given').read(), os.stat(folder + '/given').st_uid == os.getuid())
    try: print(open(folder + '/made', 'w').write('made'))
    except OSError as error: print(error.strerror)
os.chmod({write:?} + '/made', 0o640)"
        );
        let (read, write) = (format!("{read}:ro"), format!("{write}:rw"));
        let args = ["--mount", &read, "--mount", &write];
        let (said, errors) = ran(host, &args, cwd.path(), home.path(), &code);
        assert_eq!(
            said, "read True\nRead-only file system\nwrite True\n4",
            "{errors}"
        );
        let meta = std::fs::metadata(other.path().join("write/made")).unwrap();
        assert_eq!(meta.uid(), nix::unistd::geteuid().as_raw());
        assert_eq!(meta.mode() & 0o777, 0o640);
    });
}

#[test]
fn of_a_home_or_the_root_a_kernel_sees_a_folder_of_its_own_alone() {
    with_host(async |host| {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("secret"), "secret").unwrap();
        let code = "import os; print(os.getcwd(), os.listdir(), os.path.exists('../secret')); open('made', 'w').close()";
        for cwd in [home.path(), Path::new("/")] {
            let own = cwd.join("heddle");
            let was_there = own.exists();
            let (said, errors) = ran(host, &[], cwd, home.path(), code);
            assert!(
                said.starts_with(&*own.to_string_lossy()) && said.ends_with("False"),
                "{said}"
            );
            assert!(
                errors.contains("and sees nothing else of the folder above it"),
                "{errors}"
            );
            assert!(own.join("made").exists());
            if !was_there {
                std::fs::remove_dir_all(&own).unwrap();
            }
        }
    });
}
