//! The application's own metrics, sent by clients that are not ours.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::alarms;
use crate::outage::Outage;
use crate::place::{PAUSE, Place, TRIES, free};

const TOKEN: &str = "t0ken";

/// A daemon with a listener for the application.
fn listening(more: &str) -> (Place, SocketAddr) {
    let address = free();
    let mut place = Place::new();
    fs::write(place.dir.path().join("token"), TOKEN).unwrap();
    place.configure(&format!("[application]\nlisten = \"{address}\"\ntoken_file = \"token\"\n{more}"));
    place.start();
    (place, address)
}

fn received(place: &Place) -> u64 {
    place.status()["metrics"]["received"].as_u64().unwrap()
}

/// Waits until so many data came, and returns what is said of metrics then.
fn wait_for(place: &Place, count: u64) -> Value {
    for _ in 0..TRIES {
        let metrics = place.status()["metrics"].clone();
        if metrics["received"].as_u64().unwrap() >= count {
            return metrics;
        }
        thread::sleep(PAUSE);
    }
    panic!("{count} data never came: {}; {:?}", place.status()["metrics"], place.said());
}

/// Count, sum, minimum and maximum of one metric within the last quarter of an hour.
fn statistics(place: &Place, namespace: &str, metric: &str, dimensions: &[(&str, &str)], unit: &str) -> [f64; 4] {
    let output = place.ask(&["metrics", "--namespace", namespace, "--over", "15m", "--json"]);
    let listed: Value = serde_json::from_slice(&output.stdout).unwrap();
    let dimensions: Vec<Value> = dimensions.iter().map(|(name, value)| json!({"Name": name, "Value": value})).collect();
    let all = listed["metrics"].as_array().unwrap();
    let is_it = |one: &&Value| one["MetricName"] == metric && one["Dimensions"] == json!(dimensions);
    let found = all.iter().find(is_it).unwrap_or_else(|| panic!("no {metric} of {dimensions:?}: {listed}"));
    assert_eq!(found["Namespace"], namespace);
    let units = found["Units"].as_array().unwrap();
    assert_eq!((units.len(), &units[0]["Unit"]), (1, &json!(unit)), "{found}");
    ["SampleCount", "Sum", "Minimum", "Maximum"].map(|figure| units[0][figure].as_f64().unwrap())
}

/// The Python that has the clients.
fn python(script: &str) -> Command {
    let python = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("clients/bin/python");
    assert!(python.exists(), "{} is not there: ./test installs it", python.display());
    let mut command = Command::new(python);
    command.args(["-c", script]).stdin(Stdio::null());
    command
}

fn ran(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

/// Four instruments, collected three times: twice after something happened, once after nothing did.
const SDK: &str = r#"
import sys
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.metrics import Observation

exporter = OTLPMetricExporter(endpoint=sys.argv[1], headers={"Authorization": "Bearer " + sys.argv[2]},
                              compression=Compression.Gzip)
reader = PeriodicExportingMetricReader(exporter, export_interval_millis=3600000)
views = [View(instrument_name="odd", aggregation=ExponentialBucketHistogramAggregation())]
provider = MeterProvider(metric_readers=[reader], resource=Resource({"service.name": "shop"}), views=views)
meter = provider.get_meter("shop")
calls = meter.create_counter("calls", unit="{call}")
open_now = meter.create_up_down_counter("open")
took = meter.create_histogram("took", unit="s")
meter.create_observable_gauge("depth", callbacks=[lambda _: [Observation(7)]])
for _ in range(2):
    calls.add(3, {"route": "/pay"})
    open_now.add(-1)
    took.record(0.25, {"route": "/pay"})
    assert provider.force_flush()
if len(sys.argv) > 3:
    meter.create_histogram("odd").record(1)
provider.shutdown()
"#;

#[test]
fn an_opentelemetry_sdk() {
    let (place, address) = listening("");
    let url = format!("http://{address}/v1/metrics");
    ran(python(SDK).args([&url, TOKEN]));
    // 4 and 4; then the histogram has nothing new.
    let metrics = wait_for(&place, 11);
    assert_eq!((&metrics["received"], &metrics["refused"]), (&json!(11), &json!(0)), "{metrics}");
    let shop = |route: &[(&str, &str)], metric: &str, unit: &str| {
        let dimensions = [route, &[("service.name", "shop")]].concat();
        statistics(&place, "OTel", metric, &dimensions, unit)
    };
    let pay = [("route", "/pay")];
    assert_eq!(shop(&pay, "calls", "Count"), [3.0, 6.0, 0.0, 3.0], "what came since the last export");
    assert_eq!(shop(&[], "depth", "None"), [3.0, 21.0, 7.0, 7.0]);
    assert_eq!(shop(&[], "open", "None"), [3.0, -5.0, -2.0, -1.0], "it stands at -1, -2 and -2");
    assert_eq!(shop(&pay, "took", "Seconds"), [2.0, 0.5, 0.25, 0.25]);
}

#[test]
fn an_opentelemetry_sdk_is_told_what_is_not_taken() {
    let (place, address) = listening("");
    let url = format!("http://{address}/v1/metrics");
    ran(python(SDK).args([&url, TOKEN, "odd"]));
    let metrics = wait_for(&place, 11);
    assert_eq!((&metrics["received"], &metrics["refused"]), (&json!(11), &json!(1)), "{metrics}");
    let said = metrics["last_refusal"].as_str().unwrap();
    assert!(said.contains("odd: an exponential histogram is not taken"), "{said}");
}

/// Ends with the test.
struct Exporter(Child);

impl Exporter {
    fn start(listen: SocketAddr) -> Exporter {
        let child = Command::new("prometheus-node-exporter")
            .arg(format!("--web.listen-address={listen}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Exporter(child.expect("prometheus-node-exporter is not there: ./test installs it"))
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_prometheus_exporter() {
    let listen = free();
    let exporter = Exporter::start(listen);
    let scrape = |keep: &str| {
        format!("[[metrics.scrape]]\nurl = \"http://{listen}/metrics\"\ninterval = \"1s\"\nkeep = [{keep}]\n")
    };
    let mut place = Place::with_config(&scrape("\"node_load1\", \"node_load5\""));
    place.start();
    // Two gauges and `up`.
    let metrics = wait_for(&place, 9);
    assert_eq!(&metrics["refused"], &json!(0), "{metrics}");
    let before = received(&place);
    place.configure(&scrape(""));
    assert!(place.ask(&["reload"]).status.success());
    let metrics = wait_for(&place, before + 500);
    assert_eq!(&metrics["refused"], &json!(0), "all of a real exporter: {metrics}");
    let instance = listen.to_string();
    let of = |metric: &str| statistics(&place, "Prometheus", metric, &[("instance", &instance)], "None");
    let [count, sum, least, most] = of("up");
    assert_eq!((count, least, most), (sum, 1.0, 1.0));
    let [count, sum, least, most] = of("node_load1");
    assert!(
        count >= 4.0 && least >= 0.0 && least <= most && sum <= most * count + 1e-9,
        "{count} {sum} {least} {most}"
    );
    drop(exporter);
    for _ in 0..TRIES {
        if place.said().iter().any(|line| line.contains(&format!("scrape of {listen} failed"))) {
            let before = received(&place);
            wait_for(&place, before + 1);
            return;
        }
        thread::sleep(PAUSE);
    }
    panic!("nobody said that the target is gone");
}

/// Two events of two dimension sets.
const EMF: &str = r#"
from aws_embedded_metrics import metric_scope
from aws_embedded_metrics.config import get_config
from aws_embedded_metrics.storage_resolution import StorageResolution

config = get_config()
config.environment = "local"
config.service_name = "shop"

@metric_scope
def handle(failed, metrics):
    metrics.set_namespace("Shop")
    metrics.set_dimensions({"Peer": "pay"}, {"Peer": "pay", "Route": "/pay"})
    metrics.put_metric("Failed", failed, "Count", StorageResolution.HIGH)
    for took in (1.5, 2.5):
        metrics.put_metric("Took", took, "Milliseconds")
    metrics.set_property("RequestId", "r-1")

handle(0)
handle(1)
"#;

/// Until it was looked at once.
fn wait_until_followed(place: &Place, name: &str) {
    let positions = place.data().join("emf-positions.json");
    for _ in 0..TRIES {
        if fs::read_to_string(&positions).is_ok_and(|text| text.contains(name)) {
            return;
        }
        thread::sleep(PAUSE);
    }
    panic!("{name} was never looked at: {:?}", place.said());
}

fn append(file: &PathBuf) -> fs::File {
    OpenOptions::new().append(true).create(true).open(file).unwrap()
}

#[test]
fn a_file_that_awss_library_writes() {
    let mut place = Place::with_config("[[metrics.emf]]\nfile = \"app.log\"\n");
    let log = place.dir.path().join("app.log");
    fs::write(&log, "{\"_aws\": \"what was there before is not looked at\"}\n").unwrap();
    place.start();
    wait_until_followed(&place, "app.log");
    let write = |log: &PathBuf| ran(python(EMF).stdout(append(log)));
    append(&log).write_all(b"an ordinary line\n{\"_aws\": \"bad\"}\n").unwrap();
    write(&log);
    // Two events, each of two metrics in two dimension sets.
    let metrics = wait_for(&place, 8);
    assert_eq!((&metrics["received"], &metrics["refused"]), (&json!(8), &json!(1)), "{metrics}");
    assert!(metrics["last_refusal"].as_str().unwrap().contains("app.log: _aws: it must be an object"), "{metrics}");

    place.signal(Signal::TERM);
    assert_eq!(place.ended(), 0);
    write(&log);
    fs::rename(&log, log.with_extension("log.1")).unwrap();
    write(&log);
    place.start();
    wait_for(&place, 16);
    // The next look would bring what is told twice.
    write(&log);
    let metrics = wait_for(&place, 24);
    let dimensions: [&[_]; 2] = [&[("Peer", "pay")], &[("Peer", "pay"), ("Route", "/pay")]];
    for dimensions in dimensions {
        // Of two events, one failed; each took 1.5 and 2.5. The run that wrote while nobody looked counts, too.
        let shop = |metric: &str, unit: &str| statistics(&place, "Shop", metric, dimensions, unit);
        let runs = shop("Failed", "Count")[1];
        assert_eq!(shop("Failed", "Count"), [2.0 * runs, runs, 0.0, 1.0]);
        assert_eq!(shop("Took", "Milliseconds"), [4.0 * runs, 8.0 * runs, 1.5, 2.5]);
        assert_eq!(runs, 4.0);
    }
    assert_eq!((&metrics["received"], &metrics["refused"]), (&json!(24), &json!(0)), "{metrics}");
}

fn curl(address: SocketAddr, path: &str, body: &str) -> (u16, String) {
    let output = ran(Command::new("curl").args([
        "-sS",
        "-w",
        "\n%{http_code}",
        "-H",
        &format!("Authorization: Bearer {TOKEN}"),
        "-H",
        "Content-Type: application/json",
        "--data-binary",
        body,
        &format!("http://{address}{path}"),
    ]));
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, status) = text.rsplit_once('\n').unwrap();
    (status.parse().unwrap(), body.to_owned())
}

#[test]
fn bad_input_gets_its_error_and_takes_nothing_good_along() {
    let (place, address) = listening("");
    let datum = |more: Value| {
        let mut datum = json!({"MetricName": "m", "Value": 1});
        datum.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"Namespace": "N", "MetricData": [{"MetricName": "good", "Value": 1}, datum]}).to_string()
    };
    let dimensions: Vec<Value> = (0..31).map(|n| json!({"Name": format!("d{n}"), "Value": "v"})).collect();
    let twice = json!([{"Name": "a", "Value": "1"}, {"Name": "a", "Value": "2"}]);
    let bad = [
        (json!({"Value": "NaN"}), "the value NaN is invalid"),
        (json!({"Value": "Infinity"}), "the value inf is invalid"),
        (json!({"Timestamp": 0}), "from two weeks in the past to two hours in the future"),
        (json!({"Timestamp": "2100-01-01T00:00:00Z"}), "from two weeks in the past to two hours in the future"),
        (json!({"Dimensions": dimensions}), "MetricData.member.2.Dimensions must not have a size greater than 30"),
        (json!({"Dimensions": twice}), "is given twice"),
        (json!({"Values": [1]}), "MetricData.member.2.Value and MetricData.member.2.Values are mutually exclusive"),
    ];
    for (count, (more, part)) in bad.iter().enumerate() {
        let (status, said) = curl(address, "/v1/metric-data", &datum(more.clone()));
        assert!(status == 400 && said.contains(part), "{more}: {status} {said}");
        let metrics = place.status()["metrics"].clone();
        assert_eq!((&metrics["received"], &metrics["refused"]), (&json!(0), &json!(count + 1)), "{metrics}");
    }
    assert_eq!(curl(address, "/v1/metric-data", &datum(json!({}))).0, 204);
    wait_for(&place, 2);

    let large = place.dir.path().join("large");
    fs::write(&large, " ".repeat(1024 * 1024 + 1)).unwrap();
    for path in ["/v1/metric-data", "/v1/emf", "/v1/metrics"] {
        assert_eq!(curl(address, path, &format!("@{}", large.display())).0, 413, "{path}");
    }
    assert_eq!(curl(address, "/v1/metric-data", &datum(json!({}))).0, 204);
    assert_eq!(&wait_for(&place, 4)["received"], &json!(4));
}

#[test]
fn a_reload_takes_over_which_files_are_followed() {
    let mut place = Place::with_config("[[metrics.emf]]\nfile = \"a.log\"\n");
    let [a, b] = ["a.log", "b.log"].map(|name| place.dir.path().join(name));
    place.start();
    let event = || {
        let ms = jiff::Timestamp::now().as_millisecond();
        let metrics = json!([{"Namespace": "N", "Dimensions": [[]], "Metrics": [{"Name": "m"}]}]);
        format!("{}\n", json!({"_aws": {"Timestamp": ms, "CloudWatchMetrics": metrics}, "m": 1}))
    };
    wait_until_followed(&place, "a.log");
    append(&a).write_all(event().as_bytes()).unwrap();
    wait_for(&place, 1);
    place.configure("[[metrics.emf]]\nfile = \"b.log\"\n");
    assert!(place.ask(&["reload"]).status.success());
    append(&a).write_all(event().repeat(10).as_bytes()).unwrap();
    wait_until_followed(&place, "b.log");
    append(&b).write_all(event().as_bytes()).unwrap();
    assert_eq!(&wait_for(&place, 2)["received"], &json!(2));
}

/// From a file that AWS' library writes to an incident of a peer that is well, by an alarm that was made for CloudWatch.
#[tokio::test(flavor = "multi_thread")]
async fn a_metric_of_the_application_opens_an_incident() {
    let outage = Outage::stage_with("[[metrics.emf]]\nfile = \"app.log\"\n").await;
    let place = &outage.place;
    let log = place.dir.path().join("app.log");
    fs::write(&log, "").unwrap();
    let peer = place.status()["peers"][0]["name"].as_str().unwrap().to_owned();
    let alarm = json!({
        "AlarmName": "shop-failed", "Namespace": "Shop", "MetricName": "Failed",
        "Dimensions": [{"Name": "Peer", "Value": "pay"}], "Statistic": "Sum", "Period": 10, "EvaluationPeriods": 1,
        "Threshold": 0.0, "ComparisonOperator": "GreaterThanThreshold", "TreatMissingData": "notBreaching",
        "AlarmActions": [format!("ukai:incident:{peer}")],
    });
    let imported = alarms::import(place, &[alarm]);
    assert!(imported.status.success(), "{}", alarms::said(&imported));
    alarms::wait_for_state(place, "shop-failed", "OK");
    wait_until_followed(place, "app.log");
    assert!(place.events("incident_opened").is_empty());
    ran(python(EMF).stdout(append(&log)));
    let opened = place.wait_for("incident_opened");
    assert_eq!((&opened["alarm"], &opened["peer"]), (&json!("shop-failed"), &json!(peer)), "{opened}");
    let shown = alarms::wait_for_state(place, "shop-failed", "ALARM");
    assert!(shown["reason"].as_str().unwrap().starts_with("Threshold Crossed: 1 datapoint [1.0 ("), "{shown}");
}
