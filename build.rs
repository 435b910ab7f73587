//! Builds what the feature `tch` has in C++, and lets this package's programs find libtorch. Does nothing without it.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    #[cfg(feature = "tch")]
    torch();
}

#[cfg(feature = "tch")]
fn torch() {
    const SHIMS: [&str; 2] = ["src/torch/autograd.cpp", "src/torch/memory.cpp"];
    SHIMS.iter().for_each(|shim| println!("cargo:rerun-if-changed={shim}"));
    // (torch-sys says where the libraries are to those that depend on it themselves.)
    let Some(libraries) = std::env::var_os("DEP_TCH_LIBTORCH_LIB").map(std::path::PathBuf::from) else {
        panic!("torch-sys did not say where libtorch is; set LIBTORCH, as scripts/setup-libtorch.sh says");
    };
    // (Reports say which libtorch it was, if it says so itself.)
    if let Ok(version) = std::fs::read_to_string(libraries.with_file_name("build-version")) {
        println!("cargo:rustc-env=FAIRLAYER_LIBTORCH={}", version.trim());
    }
    let include = libraries.with_file_name("include");
    let mut build = cc::Build::new();
    build.cpp(true).std("c++17").files(SHIMS).flag_if_supported("-Wno-unused-parameter");
    build.include(include.join("torch/csrc/api/include")).include(include);
    build.compile("fairlayer_autograd");
    println!("cargo:rustc-link-search=native={}", libraries.display());
    println!("cargo:rustc-link-lib=torch_cpu");
    println!("cargo:rustc-link-lib=c10");
    if cfg!(unix) {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{}", libraries.display());
    }
}
