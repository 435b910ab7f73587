use fairlayer::*;
use std::time::Instant;
fn main() {
    let args: Vec<usize> = std::env::args().skip(1).map(|a| a.parse().unwrap()).collect();
    let (n, groups, reps) = (args[0], args[1], args[2]);
    let problems = args.get(3).copied().unwrap_or(1);
    let mut device = if args.get(4) == Some(&9) { Device::cpu() } else { Device::wgpu().unwrap() };
    if let (Some(&above), Device::Wgpu(d)) = (args.get(4), &device) { device = Device::Wgpu(d.clone().in_tiles(above, args[5])); }
    let set = if groups > 1 { DemographicParity::within(0.01).constraints(&Population::one_feature(groups)).unwrap() } else {
        DemographicParity(Parity::Overall { epsilon: 0.01 }).constraints(&Population::one_feature(3)).unwrap() };
    let g = groups.max(3);
    let g = if groups > 1 { groups } else { g };
    let all = n * problems;
    let mut s = 12345u64;
    let mut u = || { s = s.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407); ((s >> 40) as f32) / 16777216.0 };
    let cells: Vec<u8> = (0..all).map(|_| ((u() * g as f32) as u8).min(g as u8 - 1)).collect();
    let z: Vec<f32> = cells.iter().map(|c| 0.8 * u() + 0.05 * f32::from(*c)).collect();
    let offsets = Offsets::Equal { problems, n };
    let t = Instant::now();
    let mut p = Projector::<f32>::plan(&device, &set, Capacities::of(&offsets), Settings::default()).unwrap();
    let batch = Batch::new(&z, offsets).cells(&cells).bounds(0.0, 1.0);
    println!("plan {:?}", t.elapsed());
    let mut sol = p.solution();
    let mut grad = p.gradients(Wanted::default());
    let mut best = (f64::MAX, f64::MAX);
    for _ in 0..reps {
        let t = Instant::now();
        p.project_into(&batch, &mut sol).unwrap();
        let sub = t.elapsed().as_secs_f64();
        let view = sol.read().unwrap();
        let f = t.elapsed().as_secs_f64();
        let o = &view.outcomes[0];
        if best.0 == f64::MAX { println!("{o:?} first {f} submit {sub}"); }
        let t = Instant::now();
        p.vjp(&batch, &sol, &z, &mut grad).unwrap();
        let b = grad.read().unwrap();
        let bt = t.elapsed().as_secs_f64();
        if best.0 == f64::MAX { println!("first back {bt} {:?}", &b.levels); 
        }
        best = (best.0.min(f), best.1.min(bt));
    }
    println!("n {n} groups {groups} problems {problems}: forward {:.3} ms, backward {:.3} ms", 1e3 * best.0, 1e3 * best.1);
}
