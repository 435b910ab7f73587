#[test]
fn t() {
    let text = std::env::var("W").map(|p| std::fs::read_to_string(p).unwrap()).unwrap_or_default();
    let module = naga::front::wgsl::parse_str(&text).map_err(|e| e.emit_to_string(&text)).unwrap();
    let r = naga::valid::Validator::new(naga::valid::ValidationFlags::all(), naga::valid::Capabilities::empty()).validate(&module);
    if let Err(e) = r { panic!("{}", e.emit_to_string(&text)); }
}
