//! What code in a container cannot do.

use heddle::kernel::container::image;

use crate::host::with_host;

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
