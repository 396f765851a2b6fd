//! What netbe tells others: hooks of an administrator, a receiver of webhooks, a real Consul.
//!
//! The machine is that of the attacks: a client program that boots and uses its root.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::attacks::{MAC, Victim, end, neighbour, text};
use crate::dhcp_client::{self, Kind};
use crate::failure::{During, Failure, ensure};
use crate::interrupt::wait_for;
use crate::lab::Lab;
use crate::net::{CLIENT_INTERFACE, Namespace, Network};
use crate::packages;
use crate::process::Running;
use crate::scene::Scene;
use crate::server::{Server, Site, serve_words};
use crate::suite::{Case, Outcome};

pub(super) const CASES: &[Case] = &[
    Case::new("hooks at a boot", at_a_boot).light(),
    Case::new("hooks sent signed", webhook).light(),
    Case::new("hooks consul goes away", consul).light(),
    Case::new("hooks consul catalog", catalog).light(),
];

/// A machine boots. Its hooks run in order with the privileges that the server has given up; one fails and is tried
/// again, one hangs, those before it are undone, and one that others may write to is refused. Meanwhile the machine is
/// answered as without them.
fn at_a_boot(lab: &Lab) -> Result<Outcome, Failure> {
    let scene = neighbour(lab)?;
    let etc = scene.directory.join("hooks");
    let (log, mark) = (scene.directory.join("hooks.log"), scene.directory.join("mark"));
    let note =
        format!("echo $NETBE_STEP $1 $NETBE_MACHINE $NETBE_MAC $NETBE_ADDRESS >>{}", log.display());
    let privileges = "grep NoNewPrivs /proc/self/status";
    hook(&etc, "leased.d/10-note", &format!("{note}; {privileges}"), 0o755)?;
    hook(&etc, "mounted.d/10-open", &note, 0o777)?;
    hook(&etc, "up.d/10-first", &note, 0o755)?;
    let second = format!("{note}; test -e {0} || {{ >{0}; exit 3; }}", mark.display());
    hook(&etc, "up.d/20-second-time", &second, 0o755)?;
    hook(&etc, "up.d/30-hangs", &format!("{note}; test $1 = undo || sleep 600"), 0o755)?;
    hook(&etc, "up.d/40-never", &note, 0o755)?;
    let settings = format!(
        "[hooks]\ndirectory = {:?}\n[hooks.steps.\"up/20-second-time\"]\nretries = 2\n\
         [hooks.steps.\"up/30-hangs\"]\ntimeout = 5\n",
        etc.display().to_string()
    );
    let (site, server) = served(&scene, &settings)?;
    let mut victim = Victim::boots(&scene, "victim")?;
    victim.lives("before")?;
    let hangs =
        || Ok(noted(&log).iter().any(|line| line.starts_with("up/30-hangs do")).then_some(()));
    wait_for("the hook that hangs", LIMIT, hangs)?;
    let begin = Instant::now();
    victim.lives("while a hook hangs")?;
    let took = begin.elapsed();
    ensure(took < Duration::from_secs(3), || {
        format!("beside a hook that hangs a call took {took:?}")
    })?;
    let undone =
        || Ok(noted(&log).iter().any(|line| line.starts_with("up/10-first undo")).then_some(()));
    wait_for("the undoing of the first hook", LIMIT, undone)?;
    let whole = format!("victim {} {}", text(MAC), victim.address);
    let expected: Vec<String> = [
        "leased/10-note do",
        "up/10-first do",
        "up/20-second-time do",
        "up/20-second-time do",
        "up/30-hangs do",
        "up/30-hangs undo",
        "up/20-second-time undo",
        "up/10-first undo",
    ]
    .iter()
    .map(|step| format!("{step} {whole}"))
    .collect();
    let mut seen = noted(&log);
    // It has two leases: one of its firmware, one of its system.
    seen.dedup();
    let mut expected_once = expected.clone();
    expected_once.dedup();
    ensure(seen == expected_once, || format!("hooks ran as {seen:#?}, not as {expected_once:#?}"))?;
    let told = wait_for("the refusal of a hook that others may write to", LIMIT, || {
        let told = site.run("hooks log -j")?;
        Ok(told.contains("chmod go-w").then_some(told))
    })?;
    let told: Vec<Value> = serde_json::from_str(&told).map_err(unread)?;
    let runs = told.iter().filter_map(|one| one["runs"].as_array()).flatten();
    let ended: Vec<String> = runs
        .filter(|run| run["step"].as_str().is_some_and(|step| step.starts_with("up/")))
        .map(|run| format!("{} {} {}", run["step"], run["attempt"], run["ended"]).replace('"', ""))
        .collect();
    let expected = [
        "up/10-first 1 exit status 0",
        "up/20-second-time 1 exit status 3",
        "up/20-second-time 2 exit status 0",
        "up/30-hangs 1 killed after 5 s",
        "up/30-hangs 1 exit status 0",
        "up/20-second-time 1 exit status 0",
        "up/10-first 1 exit status 0",
    ];
    ensure(ended == expected, || format!("it is recorded that {ended:#?}"))?;
    let privileges = site.run("hooks log -j victim")?;
    ensure(privileges.contains("NoNewPrivs:\\t0"), || {
        "a hook lacks the privileges that the server began with".to_owned()
    })?;
    ensure(!noted(&log).iter().any(|line| line.starts_with("mounted/")), || {
        "a refused hook ran".to_owned()
    })?;
    let refused = site.netbe("hooks list mounted").finish(LIMIT)?;
    ensure(refused.status.code() == Some(1) && refused.stderr.contains("10-open"), || {
        format!("`netbe hooks list mounted` says {refused:?}")
    })?;
    end(&site, server)
}

/// A receiver gets the event with the signature of the secret, again after it has failed to take it.
fn webhook(lab: &Lab) -> Result<Outcome, Failure> {
    let scene = neighbour(lab)?;
    let secret = scene.directory.join("secret");
    secret_file(&secret, "a long word")?;
    let settings = format!(
        "[hooks]\ndirectory = \"/nonexistent\"\n[[hooks.webhooks]]\nurl = \"http://127.0.0.1:9000/netbe\"\nevents = [\"up\"]\n\
         secret_file = {:?}\n",
        secret.display().to_string()
    );
    let (requests, over) = (Mutex::new(Vec::new()), AtomicBool::new(false));
    thread::scope(|scope| {
        let receiver = scope.spawn(|| scene.network.server.inside(|| receive(&requests, &over)));
        let outcome = (|| {
            let (site, server) = served(&scene, &settings)?;
            let mut victim = Victim::boots(&scene, "victim")?;
            victim.lives("before")?;
            let sent = wait_for("an event at the receiver", LIMIT, || {
                let sent = requests.lock().unwrap_or_else(PoisonError::into_inner).clone();
                Ok((sent.len() >= 2).then_some(sent))
            })?;
            for request in &sent {
                let (head, body) = request.split_once("\r\n\r\n").unwrap_or_default();
                let expected =
                    format!("x-netbe-signature: sha256={}", hmac(b"a long word", body.as_bytes()));
                ensure(head.to_lowercase().contains(&expected), || {
                    format!("not signed: {request}")
                })?;
                let event: Value = serde_json::from_str(body).map_err(unread)?;
                let right = part(&event, "/event") == "up"
                    && part(&event, "/machine") == "victim"
                    && *part(&event, "/mac") == text(MAC)
                    && *part(&event, "/address") == victim.address.to_string();
                ensure(right, || format!("the receiver was sent {body}"))?;
            }
            end(&site, server)
        })();
        over.store(true, Ordering::Relaxed);
        let received =
            receiver.join().map_err(|_panic| Failure::said("the receiver ended early"))?;
        outcome.and_then(|outcome| received.map(|()| outcome))
    })
}

/// A real Consul has the machine while it lives, finds it by DNS, has it again after it was away and has forgotten all,
/// and has it no more when the machine is gone. The machine is answered while Consul is away.
fn consul(lab: &Lab) -> Result<Outcome, Failure> {
    let program = packages::unpacked_of(&lab.cache, "bullseye", "consul")?.join("usr/bin/consul");
    let scene = neighbour(lab)?;
    let token = scene.directory.join("token");
    secret_file(&token, "a-token")?;
    let settings = format!(
        "[hooks]\ndirectory = \"/nonexistent\"\n[consul]\ntoken_file = {:?}\nttl = 15\n[consul.services.www]\nmachines = [\"vic*\"]\n\
         port = 80\ntags = [\"http\"]\n",
        token.display().to_string()
    );
    let first = agent(&scene, &program, 1)?;
    let (site, server) = served(&scene, &settings)?;
    let mut victim = Victim::boots(&scene, "victim")?;
    victim.lives("before")?;
    let address = victim.address.to_string();
    let has = |healthy: bool| {
        let found = ask(&scene.network, "health/service/www?passing")?;
        let right = *part(&found, "/0/Service/Address") == *address
            && *part(&found, "/0/Service/Port") == 80;
        Ok((right == healthy).then_some(()))
    };
    wait_for("the machine in Consul", LIMIT, || has(true))?;
    let own = ask(&scene.network, "catalog/service/victim")?;
    ensure(*part(&own, "/0/ServiceAddress") == *address, || format!("Consul has {own}"))?;
    let named = scene.network.server.inside(|| dns("victim.service.consul"))?;
    ensure(named.windows(4).any(|part| part == victim.address.octets()), || {
        format!("Consul's DNS does not say {address}: {named:02x?}")
    })?;
    drop(first);
    let begin = Instant::now();
    victim.lives("while Consul is away")?;
    ensure(begin.elapsed() < Duration::from_secs(5), || "a call waited for Consul".to_owned())?;
    wait_for("a warning that Consul is away", LIMIT, || {
        let said = fs::read_to_string(site.log()).unwrap_or_default();
        Ok(said.contains("is out of date").then_some(()))
    })?;
    let second = agent(&scene, &program, 2)?;
    wait_for("the machine in a Consul that has forgotten it", LIMIT, || {
        victim.lives("beside a new Consul")?;
        has(true)
    })?;
    let _firmware = begins_anew(&scene, victim)?;
    wait_for("a Consul without the machine", LIMIT, || {
        let all = ask(&scene.network, "agent/services")?;
        Ok(all.as_object().is_some_and(serde_json::Map::is_empty).then_some(()))
    })?;
    drop(second);
    end(&site, server)
}

/// In the catalog of a real Consul a node of another program has the machine's name: it is left alone, and told once. When
/// that is gone the machine is a node, and of that netbe takes away no more than is its own.
fn catalog(lab: &Lab) -> Result<Outcome, Failure> {
    let program = packages::unpacked_of(&lab.cache, "bullseye", "consul")?.join("usr/bin/consul");
    let scene = neighbour(lab)?;
    let _agent = agent(&scene, &program, 1)?;
    let redis = json!({"ID": "redis", "Service": "redis"});
    let theirs = json!({"Node": "victim", "Address": "10.9.9.9", "Service": redis});
    tell(&scene.network, "catalog/register", &theirs)?;
    let node = || ask(&scene.network, "catalog/node/victim");
    let before = node()?;
    let settings = "[hooks]\ndirectory = \"/nonexistent\"\n[consul]\nregister = \"catalog\"\nsite = \"lab\"\nttl = 10\n\
                    [consul.services.www]\nmachines = [\"*\"]\n";
    let (site, server) = served(&scene, settings)?;
    let mut victim = Victim::boots(&scene, "victim")?;
    let told = "a node victim that netbe has not registered";
    let said = || fs::read_to_string(site.log()).unwrap_or_default();
    wait_for("a warning that the node is somebody else's", LIMIT, || {
        victim.lives("beside a node of its name")?;
        Ok(said().contains(told).then_some(()))
    })?;
    // Some rounds.
    thread::sleep(Duration::from_secs(10));
    victim.lives("beside a node of its name")?;
    let (after, times) = (node()?, said().matches(told).count());
    ensure(after == before, || format!("{before} became {after}"))?;
    ensure(times == 1, || format!("it was told {times} times"))?;
    tell(&scene.network, "catalog/deregister", &json!({"Node": "victim"}))?;
    let services = |node: &Value| {
        let services = part(node, "/Services").as_object().into_iter().flat_map(|all| all.keys());
        services.cloned().collect::<Vec<_>>()
    };
    let ours = ["lab:victim:victim", "lab:www:victim"];
    wait_for("the machine as a node", LIMIT, || {
        victim.lives("as a node")?;
        Ok((services(&node()?) == ours).then_some(()))
    })?;
    let address = victim.address.to_string();
    let own = node()?;
    ensure(*part(&own, "/Node/Address") == *address, || format!("Consul has {own}"))?;
    let beside =
        json!({"Node": "victim", "Address": address, "SkipNodeUpdate": true, "Service": redis});
    tell(&scene.network, "catalog/register", &beside)?;
    let _firmware = begins_anew(&scene, victim)?;
    wait_for("a node with nothing of netbe", LIMIT, || {
        Ok((services(&node()?) == ["redis"]).then_some(()))
    })?;
    tell(&scene.network, "catalog/deregister", &json!({"Node": "victim", "ServiceID": "redis"}))?;
    wait_for("a catalog without the node", LIMIT, || Ok(node()?.is_null().then_some(())))?;
    end(&site, server)
}

/// A site with the machine `victim` that serves as this says too.
fn served<'a>(scene: &'a Scene<'_>, settings: &str) -> Result<(Site<'a>, Server), Failure> {
    let site = scene.site();
    scene.environment("victim", "true")?;
    site.named("victim", &text(MAC))?;
    site.run("sharepxe --machine victim victim")?;
    let file = scene.directory.join("netbe.toml");
    fs::write(&file, settings).during(file.display())?;
    let server = site.serve_as(&format!("{} -f {}", serve_words(), file.display()))?;
    Ok((site, server))
}

/// The machine is switched off and on: its firmware asks for an address, and resets what its system had open. It stays
/// there until this is dropped.
fn begins_anew(scene: &Scene<'_>, victim: Victim) -> Result<Namespace, Failure> {
    // Power is gone at once: nobody closes a connection.
    victim.namespace.ip(&format!("link set {CLIENT_INTERFACE} down"))?;
    drop(victim);
    let namespace = Namespace::new()?;
    scene.network.join(&namespace)?;
    namespace.ip(&format!("link set {CLIENT_INTERFACE} address {}", text(MAC)))?;
    dhcp_client::lease(&namespace, &scene.directory, scene.lab.parts()?, Kind::Ipxe)?;
    Ok(namespace)
}

fn hook(etc: &Path, name: &str, script: &str, mode: u32) -> Result<(), Failure> {
    let path = etc.join(name);
    let directory = path.parent().unwrap_or(etc);
    fs::create_dir_all(directory).during(directory.display())?;
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).during(path.display())?;
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).during(path.display())
}

fn secret_file(path: &Path, secret: &str) -> Result<(), Failure> {
    fs::write(path, format!("{secret}\n")).during(path.display())?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).during(path.display())
}

/// What hooks have noted, a line for each.
fn noted(log: &Path) -> Vec<String> {
    let text = fs::read_to_string(log).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Takes requests until it is over; the first one fails.
fn receive(requests: &Mutex<Vec<String>>, over: &AtomicBool) -> Result<(), Failure> {
    let listener = TcpListener::bind("127.0.0.1:9000").during("port 9000")?;
    listener.set_nonblocking(true).during("port 9000")?;
    while !over.load(Ordering::Relaxed) {
        let Ok((mut stream, _)) = listener.accept() else {
            thread::sleep(Duration::from_millis(20));
            continue;
        };
        let request = request(&mut stream).during("a request")?;
        let mut requests = requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests.push(request);
        let status = if requests.len() == 1 { "500 Not Now" } else { "204 Taken" };
        let answer = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        stream.write_all(answer.as_bytes()).during("an answer")?;
    }
    Ok(())
}

fn request(stream: &mut TcpStream) -> std::io::Result<String> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        let got = stream.read(&mut piece)?;
        bytes.extend(piece.iter().take(got));
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let whole = text.split_once("\r\n\r\n").is_some_and(|(head, body)| {
            let head = head.to_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            body.len() >= length.and_then(|length| length.trim().parse().ok()).unwrap_or(0)
        });
        if whole || got == 0 {
            return Ok(text);
        }
    }
}

/// HMAC with SHA-256 (RFC 2104 §2), of a key that is shorter than a block, by other means than netbe's.
fn hmac(key: &[u8], text: &[u8]) -> String {
    let pad = |byte: u8| {
        let keyed = key.iter().chain(std::iter::repeat(&0)).take(64);
        keyed.map(|part| part ^ byte).collect::<Vec<_>>()
    };
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(text).finalize();
    let outer = Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize();
    outer.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A Consul that remembers nothing of another one.
fn agent(scene: &Scene<'_>, program: &Path, number: u8) -> Result<Running, Failure> {
    let log: PathBuf = scene.directory.join(format!("consul-{number}.log"));
    let agent = scene.network.server.program(&program.display().to_string());
    let agent = agent.words("agent -dev -bind 127.0.0.1 -client 127.0.0.1 -log-level warn");
    let mut running = agent.start(&log)?;
    wait_for("Consul's start", LIMIT, || {
        running.still(&log)?;
        let leader = ask(&scene.network, "status/leader");
        Ok(leader
            .is_ok_and(|leader| leader.as_str().is_some_and(|one| !one.is_empty()))
            .then_some(()))
    })?;
    Ok(running)
}

/// What Consul answers.
fn ask(network: &Network, path: &str) -> Result<Value, Failure> {
    let curl = network.server.program("curl").words("-sf -m 10");
    let said = curl.arg(format!("http://127.0.0.1:8500/v1/{path}")).run(Duration::from_secs(20))?;
    serde_json::from_str(&said).map_err(unread)
}

/// Has Consul do something.
fn tell(network: &Network, path: &str, body: &Value) -> Result<(), Failure> {
    let curl = network.server.program("curl").words("-sf -m 10 -X PUT -d");
    let url = format!("http://127.0.0.1:8500/v1/{path}");
    curl.arg(body.to_string()).arg(url).run(Duration::from_secs(20)).map(drop)
}

/// What Consul's DNS answers to the question for the address of a name (RFC 1035 §4.1).
fn dns(name: &str) -> Result<Vec<u8>, Failure> {
    let what = "a question to Consul's DNS";
    let mut question = vec![0x12, 0x34, 0x01, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for part in name.split('.') {
        question.push(u8::try_from(part.len()).unwrap_or_default());
        question.extend(part.as_bytes());
    }
    question.extend([0, 0, 1, 0, 1]);
    let socket = UdpSocket::bind("127.0.0.1:0").during(what)?;
    socket.set_read_timeout(Some(Duration::from_secs(20))).during(what)?;
    socket.send_to(&question, "127.0.0.1:8600").during(what)?;
    let mut answer = vec![0; 4096];
    let length = socket.recv(&mut answer).during(what)?;
    answer.truncate(length);
    Ok(answer)
}

/// What is at this place; null, if nothing is (RFC 6901).
fn part<'a>(value: &'a Value, place: &str) -> &'a Value {
    value.pointer(place).unwrap_or(&Value::Null)
}

fn unread(error: serde_json::Error) -> Failure {
    Failure::said(format!("no JSON: {error}"))
}

/// Many times what it takes.
const LIMIT: Duration = Duration::from_secs(90);
