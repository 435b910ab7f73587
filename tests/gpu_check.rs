//! `scripts/gpu-check.sh` on a machine that is made up: what it says of a GPU, of tests and of a sanitizer that are well, and
//! of each that is not. (It is for machines with a GPU; what it makes of their answers is tested on all.)

#![cfg(unix)]

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

/// What is wrong with the machine. The programs below look for it in their environment.
#[derive(Clone, Copy, PartialEq)]
enum Wrong {
    Nothing,
    /// nvidia-smi has no GPU to tell of.
    NoDevice,
    /// There are no programs.
    NotPacked,
    /// A test fails.
    TestFails,
    /// A program of tests ends well, and has run none.
    NoTests,
    /// A device is skipped, although it is there.
    Skips,
    /// A program of tests ends without a word on how.
    Dies,
    /// One does not end.
    Hangs,
    /// The sanitizer finds nothing, ever.
    Blind,
    /// It finds errors in tests, and ends with 0 all the same.
    Errors,
    /// It finds a fault where there is none.
    FalseAlarm,
    /// It does not sum up.
    Silent,
    /// A test that it is to look at has another name now.
    Renamed,
    /// The planted faults do not compile.
    NoFaults,
    /// A second start is not faster than the first.
    NoCache,
    /// A bench ends well, and leaves no figures.
    NoFigures,
    /// There is a driver for Vulkan, and a test of wgpu fails.
    WgpuFails,
    /// There is a driver for Vulkan.
    WgpuWorks,
}

impl Wrong {
    fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::NoDevice => "no_device",
            Self::NotPacked => "not_packed",
            Self::TestFails => "test_fails",
            Self::NoTests => "no_tests",
            Self::Skips => "skips",
            Self::Dies => "dies",
            Self::Hangs => "hangs",
            Self::Blind => "blind",
            Self::Errors => "errors",
            Self::FalseAlarm => "false_alarm",
            Self::Silent => "silent",
            Self::Renamed => "renamed",
            Self::NoFaults => "no_faults",
            Self::NoCache => "no_cache",
            Self::NoFigures => "no_figures",
            Self::WgpuFails => "wgpu_fails",
            Self::WgpuWorks => "wgpu_works",
        }
    }
}

const NVIDIA_SMI: &str = r#"
[ "$WRONG" = no_device ] && { echo "No devices were found"; exit 6; }
echo "NVIDIA H100 80GB HBM3, 580.159.04, 81559 MiB, 9.0""#;

/// Compiles the planted faults: they are the first of these programs.
const NVCC: &str = r#"
[ "$WRONG" = no_faults ] && { echo "error: expected a ;"; exit 1; }
case "$*" in *-arch=sm_90*faults.cu) ;; *) exit 3 ;; esac
while [ "$1" != -o ]; do shift; done
/bin/cp "${0%/*}/../faults" "$2""#;

const COMPUTE_SANITIZER: &str = r#"
tool=
while [ "${1#-}" != "$1" ]; do
    [ "$1" = --tool ] && tool=$2
    shift 2
done
"$@"
code=$?
found=0
case "$1 $2" in
    *"/faults $tool") [ "$WRONG" = blind ] || found=3 ;;
    *"/faults none") [ "$WRONG" = false_alarm ] && found=1 ;;
    *) [ "$WRONG" = errors ] && found=2 ;;
esac
[ "$WRONG" = silent ] && exit $code
if [ "$tool" = racecheck ]; then
    echo "========= RACECHECK SUMMARY: $found hazards displayed ($found errors, 0 warnings)"
elif [ $found = 1 ]; then
    echo "========= ERROR SUMMARY: 1 error"
else
    echo "========= ERROR SUMMARY: $found errors"
fi
exit $code"#;

/// A program of tests: lists them, or runs those that it is told to.
const TESTS: &str = r#"
case "${0##*/}" in
    suite) own="cuda::gradients_by_hand cuda_emu::clipping_by_hand cuda::clipping_by_hand cuda::weights_by_hand
        cuda::ratio_by_hand wgpu::clipping_by_hand" ;;
    cuda) own="cuda::what_cannot_be_used_spoils_one_problem cuda::the_iteration_limit_leaves_the_clipped_input
        cuda::dense_rows_agree_with_the_reference" ;;
    wgpu) own="adapters_are_found" ;;
esac
[ "$WRONG" = renamed ] && own=${own%cuda::*}
exact=
list=
part=
for word; do
    case "$word" in --list) list=yes ;; --exact) exact=yes ;; *) part=$word ;; esac
done
[ -z "$list" ] || for test in $own; do case "$test" in *"$part"*) echo "$test: test" ;; esac; done
[ -z "$list" ] || { echo; echo "1 tests, 0 benchmarks"; exit 0; }
case "$part:$FAIRLAYER_REQUIRE:$FAIRLAYER_CACHE" in *::*::/*) ;; *) [ -n "$exact$FAIRLAYER_REQUIRE" ] || exit 9 ;; esac
[ "$WRONG" = dies ] && exit 139
[ "$WRONG" = hangs ] && { /bin/sleep 60; exit 0; }
passed=0
failed=0
for test in $own; do
    case "$test" in *"$part"*) ;; *) continue ;; esac
    [ "$WRONG" = no_tests ] && continue
    if [ "$WRONG" = skips ]; then echo "SKIP $test: no GPU"; fi
    case "$WRONG $test" in
        "test_fails cuda::clipping_by_hand" | "wgpu_fails adapters_are_found")
            echo "test $test ... FAILED"
            failed=$((failed + 1))
            ;;
        *)
            echo "test $test ... ok"
            passed=$((passed + 1))
            ;;
    esac
done
echo
if [ $failed = 0 ]; then
    echo "test result: ok. $passed passed; 0 failed; 3 ignored; 0 measured; 9 filtered out; finished in 0.01s"
else
    echo "test result: FAILED. $passed passed; $failed failed; 0 ignored; 0 measured; 9 filtered out; finished in 0.01s"
    exit 101
fi"#;

const FAIRLAYER: &str = r#"
echo "│ --device ┆ usable ┆ device ┆ detail │"
echo "│ cpu ┆ yes ┆ CPU ┆ 16 threads │"
echo "│ wgpu ┆ yes ┆ llvmpipe (LLVM 15.0.6, 256 bits) ┆ Cpu through vulkan │"
case "$WRONG" in
    wgpu_*) echo "│ wgpu ┆ yes ┆ NVIDIA H100 80GB HBM3 ┆ DiscreteGpu through vulkan │" ;;
    *) echo "│ wgpu ┆ no ┆ NVIDIA H100 80GB HBM3 ┆ its limits are too low │" ;;
esac"#;

const GPU_BENCH: &str = r#"
[ "$FAIRLAYER_WGPU_ADAPTER" = "NVIDIA H100 80GB HBM3" ] || exit 4
echo "1 x 512, parity: forward 11 us""#;

const CUDA_BENCH: &str = r#"
[ "$1" = --json ] || exit 4
warm=31
[ "$WRONG" = no_cache ] && warm=800
[ "$WRONG" = no_figures ] || echo "{\"first_use\": {\"cold\": {\"plan_ms\": 750}, \"warm\": {\"plan_ms\": $warm}}}" >"$2"
echo "65536 x 256, 2 groups, f32: 61 us""#;

/// Python as its own path has it, or nothing, said aloud: a name on the PATH may be a script that needs more of it.
fn python() -> Option<String> {
    let output = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output();
    match output {
        Ok(output) if output.status.success() => Some(String::from_utf8(output.stdout).unwrap().trim().to_owned()),
        _ => {
            let required = std::env::var("FAIRLAYER_REQUIRE").unwrap_or_default();
            assert!(
                !required.split(',').any(|name| name == "python3"),
                "FAIRLAYER_REQUIRE names python3: it is absent"
            );
            writeln!(std::io::stderr(), "SKIP gpu_check: python3 is absent").expect("stderr takes a line");
            None
        }
    }
}

/// A machine with nothing but these programs.
struct Machine {
    folder: TempDir,
    wrong: Wrong,
}

fn write_program(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, format!("#!/bin/sh\n{}\n", text.trim())).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

impl Machine {
    fn new(python: &str, wrong: Wrong) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| write_program(&folder.path().join(name), text);
        file("bin/python3", &format!("exec {python} \"$@\""));
        file("bin/nvidia-smi", NVIDIA_SMI);
        file("bin/nvcc", NVCC);
        file("bin/compute-sanitizer", COMPUTE_SANITIZER);
        file("lib64/libnvrtc.so.13", "");
        file("faults", "exit 0");
        ["suite", "cuda", "wgpu"].iter().for_each(|name| file(&format!("pack/tests/{name}"), TESTS));
        file("pack/benches/cuda", CUDA_BENCH);
        file("pack/benches/gpu", GPU_BENCH);
        file("pack/fairlayer", FAIRLAYER);
        std::fs::write(folder.path().join("pack/commit"), "0123abcd\n").unwrap();
        Self { folder, wrong }
    }

    fn without(self, file: &str) -> Self {
        std::fs::remove_file(self.folder.path().join(file)).unwrap();
        self
    }

    fn check(&self, more: &[&str]) -> Output {
        let root = self.folder.path();
        if self.wrong != Wrong::NotPacked {
            let mut tar = Command::new("tar");
            tar.arg("-C").arg(root.join("pack")).arg("-czf").arg(root.join("programs.tgz")).arg(".");
            assert!(tar.status().unwrap().success());
        }
        Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/gpu-check.sh"))
            .env_clear()
            .env("PATH", root.join("bin"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("WRONG", self.wrong.name())
            .arg("--pack")
            .arg(root.join("programs.tgz"))
            .arg("--results")
            .arg(root.join("results"))
            .args(more)
            .output()
            .unwrap()
    }

    /// The one file of results that ends so.
    fn result(&self, suffix: &str) -> String {
        let files = self.folder.path().join("results").read_dir().unwrap().map(|entry| entry.unwrap().path());
        let files: Vec<_> = files.filter(|path| path.to_str().unwrap().ends_with(suffix)).collect();
        assert_eq!(files.len(), 1, "{files:?}");
        std::fs::read_to_string(&files[0]).unwrap()
    }
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or_else(|| panic!("{output:?}"))
}

/// The step of this name.
fn step<'a>(report: &'a Value, name: &str) -> &'a Value {
    let found = report["steps"].as_array().unwrap().iter().find(|step| step["name"] == name);
    found.unwrap_or_else(|| panic!("no step {name}: {report}"))
}

#[test]
fn a_machine_that_is_well() {
    let Some(python) = python() else { return };
    let machine = Machine::new(&python, Wrong::Nothing);
    let output = machine.check(&["--limit", "50"]);
    assert_eq!(code(&output), 0, "{output:?}");
    let report: Value = serde_json::from_str(&machine.result(".json")).unwrap();
    assert_eq!((&report["is_well"], &report["commit"]), (&Value::Bool(true), &"0123abcd".into()));
    assert_eq!(report["machine"]["device"], "NVIDIA H100 80GB HBM3");
    assert_eq!(
        (&report["machine"]["driver"], &report["machine"]["compute_capability"]),
        (&"580.159.04".into(), &"9.0".into())
    );
    assert!(report["command"].as_str().unwrap().contains("--limit 50"), "{report}");
    assert!(report["date"].as_str().unwrap().starts_with("20"), "{report}");
    // Two programs with four and three tests of the backend, and three that are ignored.
    let suite = step(&report, "suite cuda");
    assert_eq!((&suite["passed"], &suite["ignored"]), (&7.into(), &6.into()));
    for tool in ["memcheck", "racecheck", "initcheck", "synccheck"] {
        let step = step(&report, &format!("compute-sanitizer {tool}"));
        assert_eq!((&step["outcome"], &step["passed"]), (&"passed".into(), &7.into()), "{step}");
    }
    assert_eq!(step(&report, "bench cuda")["figures"]["first_use"]["warm"]["plan_ms"], 31);
    assert_eq!(step(&report, "nvrtc cache")["outcome"], "passed");
    assert_eq!(step(&report, "suite wgpu")["outcome"], "absent");
    // (Here there is no torch, or none that sees a GPU.)
    assert_eq!(step(&report, "peers")["outcome"], "absent");
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.starts_with(&machine.result(".txt")));
    for line in [
        "suite cuda",
        "compute-sanitizer racecheck  passed",
        "no Vulkan driver of this GPU",
        "65536 x 256, 2 groups, f32: 61 us",
        "750 ms with nothing compiled, 31 ms",
        "driver 580.159.04",
    ] {
        assert!(table.contains(line), "{line}: {table}");
    }
    // A second check of the day has a file of its own.
    assert_eq!(code(&machine.check(&["--only", "suite"])), 0);
    assert_eq!(machine.folder.path().join("results").read_dir().unwrap().count(), 4);
}

/// A torch that has a GPU, and can do nothing.
const TORCH: &str = "
class cuda:
    is_available = lambda: True
def arange(*_, **__):
    raise RuntimeError('out of memory')";

#[test]
fn peers_that_fail_are_shown() {
    let Some(python) = python() else { return };
    let machine = Machine::new(&python, Wrong::Nothing);
    let folder = machine.folder.path().join("pack/python");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("torch.py"), TORCH).unwrap();
    assert_eq!(code(&machine.check(&["--only", "bench,peers"])), 0);
    let report: Value = serde_json::from_str(&machine.result(".json")).unwrap();
    let rows = step(&report, "bench peers")["figures"]["peers"].as_array().unwrap();
    let of = |name: &str| rows.iter().filter(|row| row["peer"] == name).collect::<Vec<_>>();
    assert_eq!(of("bisection in torch").len(), 4);
    assert!(of("Newton in torch").iter().all(|row| row["failed"] == "RuntimeError: out of memory"));
    assert_eq!(of("qpth")[0]["not_measured"], "there is no qpth");
    assert!(machine.result(".txt").contains("RuntimeError: out of memory"));
}

#[test]
fn what_is_absent_is_said() {
    let Some(python) = python() else { return };
    let all = [
        (Machine::new(&python, Wrong::NoDevice), "No devices were found"),
        (Machine::new(&python, Wrong::Nothing).without("bin/nvidia-smi"), "nvidia-smi is not on the PATH"),
        (Machine::new(&python, Wrong::Nothing).without("bin/nvcc"), "nvcc is not on the PATH"),
        (
            Machine::new(&python, Wrong::Nothing).without("bin/compute-sanitizer"),
            "compute-sanitizer is not on the PATH",
        ),
        (Machine::new(&python, Wrong::Nothing).without("bin/python3"), "python3 is absent"),
        (Machine::new(&python, Wrong::Nothing).without("pack/commit"), "make them with scripts/gpu-pack.sh"),
        (Machine::new(&python, Wrong::NotPacked), "programs.tgz"),
    ];
    for (machine, message) in all {
        let output = machine.check(&[]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(code(&output) == 2 && said.contains(message), "{message}: {output:?}");
        assert!(!machine.folder.path().join("results").exists(), "{message}");
    }
    // What a step does not need may be absent.
    let machine = Machine::new(&python, Wrong::Nothing).without("bin/compute-sanitizer");
    assert_eq!(code(&machine.check(&["--only", "suite,wgpu"])), 0);
    assert_eq!(code(&machine.check(&["--only", "sweet"])), 2);
}

#[test]
fn what_is_wrong_is_found() {
    let Some(python) = python() else { return };
    for (wrong, only, name, why) in [
        (Wrong::TestFails, "suite", "suite cuda", "1 of 4 tests failed (cuda::clipping_by_hand)"),
        (Wrong::NoTests, "suite", "suite cuda", "it ran no tests"),
        (Wrong::Skips, "suite", "suite cuda", "tests were skipped"),
        (Wrong::Dies, "suite", "suite cuda", "it ended with 139 and no result"),
        (Wrong::Hangs, "suite", "suite cuda", "it took too long"),
        (Wrong::Blind, "sanitizer", "compute-sanitizer memcheck", "planted fault: not found"),
        (Wrong::Blind, "sanitizer", "compute-sanitizer racecheck", "planted fault: not found"),
        (Wrong::Errors, "sanitizer", "compute-sanitizer initcheck", "2 errors"),
        (Wrong::Errors, "sanitizer", "compute-sanitizer racecheck", "2 errors"),
        (Wrong::FalseAlarm, "sanitizer", "compute-sanitizer synccheck", "no fault: 1 errors"),
        (Wrong::Silent, "sanitizer", "compute-sanitizer memcheck", "no summary line"),
        (Wrong::TestFails, "sanitizer", "compute-sanitizer memcheck", "1 of 1 tests failed"),
        (Wrong::Renamed, "sanitizer", "compute-sanitizer memcheck", "has no test cuda::"),
        (Wrong::NoFaults, "sanitizer", "sanitizer", "expected a ;"),
        (Wrong::NoCache, "bench", "nvrtc cache", "it saves nothing"),
        (Wrong::NoFigures, "bench", "bench cuda", "it wrote no figures"),
        (Wrong::WgpuFails, "wgpu", "suite wgpu", "wgpu: 1 of 1 tests failed (adapters_are_found)"),
    ] {
        let machine = Machine::new(&python, wrong);
        let output = machine.check(&["--only", only, "--limit", if wrong == Wrong::Hangs { "0.5" } else { "50" }]);
        assert_eq!(code(&output), 1, "{why}: {output:?}");
        let report: Value = serde_json::from_str(&machine.result(".json")).unwrap();
        assert_eq!(report["is_well"], false, "{why}");
        let step = step(&report, name);
        assert!(step["why"].as_str().unwrap_or("").contains(why), "{why}: {step}");
        assert!(machine.result(".txt").contains("FAILED"), "{why}");
    }
}

/// The tests that the sanitizer looks at are those of this repository.
#[test]
fn the_part_for_the_sanitizer_is_there() {
    let read = |file: &str| std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
    let (listed, bodies) = (read("scripts/gpu_check/sanitizer.py"), read("tests/suite.rs") + &read("tests/cuda.rs"));
    let names: Vec<&str> = listed.split("\"cuda::").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert!(names.len() >= 6, "{names:?}");
    let words: Vec<&str> = bodies.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    names.iter().for_each(|name| assert!(words.contains(name), "no test body {name}"));
}

#[test]
fn wgpu_runs_on_the_same_gpu() {
    let Some(python) = python() else { return };
    let machine = Machine::new(&python, Wrong::WgpuWorks);
    let output = machine.check(&["--only", "wgpu"]);
    assert_eq!(code(&output), 0, "{output:?}");
    let report: Value = serde_json::from_str(&machine.result(".json")).unwrap();
    assert_eq!(step(&report, "suite wgpu")["passed"], 2);
    assert_eq!(step(&report, "bench gpu")["outcome"], "passed");
    assert!(machine.result(".txt").contains("forward 11 us"));
}
