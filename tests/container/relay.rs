//! Kernels whose connections go through the container's standard streams.

use std::time::{Duration, Instant};

use heddle::kernel::container::{Reach, image};

use crate::ends::Session;
use crate::host::{Host, eventually, with_host};
use crate::place::Place;

async fn place(host: &Host, reach: Reach) -> Place {
    host.place_reached_by(reach, &image::own_name()).await
}

/// The one container that works in a place, as the engine describes it.
fn described(host: &Host, place: &Place, format: &str) -> String {
    let id = &host.containers_of(place.workspace.path())[0];
    host.docker_says(&["inspect", "-f", format, id])
}

#[test]
fn no_socket_and_no_port_leads_in() {
    with_host(async |host| {
        let place = place(host, Reach::Streams).await;
        let mut kernel = place.start().await;
        let mounts = described(host, &place, "{{range .Mounts}}{{.Destination}} {{end}}");
        assert_eq!(mounts, place.workspace.path().to_string_lossy());
        let network = "{{.HostConfig.NetworkMode}} {{.NetworkSettings.Ports}}";
        assert_eq!(described(host, &place, network), "none map[]");
        // The key of the connection is not shown to whoever may ask the engine.
        let folder = kernel.executor.kernel().connection_file();
        let connection: serde_json::Value =
            serde_json::from_slice(&std::fs::read(&folder).unwrap()).unwrap();
        let key = connection["key"].as_str().unwrap();
        assert!(key.len() > 10 && !described(host, &place, "{{json .}}").contains(key));
        let code = "
import os, stat
print(sorted(os.listdir('/run/heddle')))
fill = open('/run/heddle/x', 'wb', 0)
try:
    for _ in range(64): fill.write(bytes(4096))
except OSError as error: print(error.strerror)";
        let printed = kernel.printed(code).await;
        assert!(
            printed.contains("'inside.json', 'k-1'")
                && printed.ends_with("No space left on device"),
            "{printed}"
        );
        kernel.end().await;
    });
}

#[test]
fn a_death_is_named_and_the_session_goes_on() {
    with_host(async |host| {
        let place = place(host, Reach::Streams).await;
        let mut kernel = place.start().await;
        for (code, reason) in [
            ("import os; os.kill(os.getpid(), 11)", "SIGSEGV"),
            ("import os; os._exit(7)", "exited with code 7"),
        ] {
            let died = kernel.run(code).await.died.unwrap();
            assert!(died.contains(reason), "{died}");
            assert_eq!(kernel.printed("print('anew')").await, "anew");
        }
        kernel.end().await;

        let mut place = place;
        place.grants.memory = 256 << 20;
        let mut kernel = place.start().await;
        let died = kernel.run("x = bytearray(400 << 20)").await.died.unwrap();
        assert!(died.contains("ran out of memory"), "{died}");
        kernel.end().await;
    });
}

#[test]
fn code_cannot_speak_in_the_relays_place() {
    with_host(async |host| {
        let place = place(host, Reach::Streams).await;
        let mut kernel = place.start().await;
        let code = "
for file in 0, 1, 2:
    try: print(open(f'/proc/1/fd/{file}', 'wb', 0))
    except PermissionError: print('refused', end=' ')";
        assert_eq!(kernel.printed(code).await, "refused refused refused");
        kernel.end().await;
    });
}

#[test]
fn nothing_is_left_of_a_heddle_that_was_killed() {
    with_host(async |host| {
        let mut session = Session::start_with(host, "", &[("HEDDLE_CONTAINER_SOCKETS", "apart")]);
        assert!(session.has_container(host) && session.has_mount() && session.folder.exists());
        session.kill();
        let gone =
            || !session.has_container(host) && !session.has_mount() && !session.folder.exists();
        eventually(Duration::from_secs(3), gone);
    });
}

/// Seconds to a kernel that has answered, for a small cell, and for 100 MiB that a cell publishes.
async fn seconds(place: &Place) -> [f64; 3] {
    let started = Instant::now();
    let mut kernel = place.start().await;
    let start = started.elapsed();
    kernel.printed("print(1)").await;
    let mut cells: Vec<Duration> = Vec::new();
    for _ in 0..20 {
        let started = Instant::now();
        assert_eq!(kernel.run("1 + 1").await.values.trim(), "2");
        cells.push(started.elapsed());
    }
    cells.sort();
    let code = "
from IPython.display import display
for _ in range(10): display({'application/x-bulk': 'x' * (10 << 20)}, raw=True)";
    let started = Instant::now();
    kernel.printed(code).await;
    let bulk = started.elapsed();
    kernel.end().await;
    [start, cells[cells.len() / 2], bulk].map(|time| time.as_secs_f64())
}

#[test]
fn it_costs_little() {
    with_host(async |host| {
        let places = [
            place(host, Reach::Sockets).await,
            place(host, Reach::Streams).await,
        ];
        let mut measured = [const { Vec::new() }; 2];
        for _ in 0..3 {
            for (place, measured) in places.iter().zip(&mut measured) {
                measured.push(seconds(place).await);
            }
        }
        let best = measured.map(|runs: Vec<[f64; 3]>| {
            std::array::from_fn::<_, 3, _>(|i| {
                runs.iter().map(|run| run[i]).fold(f64::MAX, f64::min)
            })
        });
        eprintln!(
            "start, 1+1, 100 MiB: by sockets {:.4?} s, by streams {:.4?} s",
            best[0], best[1]
        );
        for (direct, relayed) in best[0].iter().zip(best[1]) {
            assert!(relayed < direct * 3.0 + 0.1, "{best:?}");
        }
    });
}
