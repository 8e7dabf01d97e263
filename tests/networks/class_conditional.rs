//! U-Nets that are told classes.

use dfdx::tensor_ops::Backward as _;
use ssprop::models::modules;
use ssprop::nn::ModelCost;
use ssprop::prelude::*;

type Net = modules::ClassConditional<modules::MnistUNet<1, f32, Cpu>, 10, 64, f32, Cpu>;
type Images = Tensor<Rank4<3, 1, 16, 16>, f32, Cpu>;

/// A network whose class embeddings are not zeros.
fn network(dev: &Cpu) -> Net {
    let mut net = dev.build_module::<ClassConditional<MnistUNet, 10, 64>, f32>();
    net.label_emb.fill_with_distr(rand_distr::StandardNormal);
    net
}

/// Images and their timesteps.
fn inputs(dev: &Cpu) -> (Images, Tensor<Rank1<3>, f32, Cpu>) {
    (dev.sample_normal(), dev.tensor([3.0, 177.0, 40.0]))
}

fn classes(dev: &Cpu, of: [Option<usize>; 3]) -> Tensor<Rank2<3, 10>, f32, Cpu> {
    let row = |class: Option<usize>| std::array::from_fn(|i| f32::from(u8::from(class == Some(i))));
    dev.tensor(of.map(row))
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

#[test]
fn it_begins_as_the_u_net_whose_checkpoint_it_reads() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("unet.safetensors");
    let dev = Cpu::seed_from_u64(0);
    let unet = dev.build_module::<MnistUNet, f32>();
    checkpoint::save(&path, &unet, &Default::default()).unwrap();
    let mut net = dev.build_module::<ClassConditional<MnistUNet, 10, 64>, f32>();
    let partial = checkpoint::load_partial(&path, &mut net).unwrap();
    assert_eq!(partial.missing, ["label_emb.weight"]);
    assert!(partial.unexpected.is_empty());

    let (x, t) = inputs(&dev);
    let expected = bits(&unet.forward((x.clone(), t.clone())).as_vec());
    let told = classes(&dev, [Some(1), None, Some(9)]);
    assert_eq!(
        bits(&net.forward((x.clone(), t.clone(), told)).as_vec()),
        expected
    );

    // The other way round the classes are what is too much.
    checkpoint::save(&path, &network(&dev), &Default::default()).unwrap();
    let mut unet = unet;
    let partial = checkpoint::load_partial(&path, &mut unet).unwrap();
    assert_eq!(partial.unexpected, ["label_emb.weight"]);
    let err = checkpoint::load(&path, &mut unet).unwrap_err().to_string();
    assert!(err.contains("label_emb.weight"), "{err}");
    checkpoint::load(&path, &mut net).unwrap();
    assert_eq!(
        bits(&net.forward((x.clone(), t.clone())).as_vec()),
        bits(&unet.forward((x, t)).as_vec())
    );
}

#[test]
fn each_image_is_told_its_own_class() {
    let dev = Cpu::seed_from_u64(1);
    let net = network(&dev);
    let (x, t) = inputs(&dev);
    let draw = |of| {
        let y = net.forward((x.clone(), t.clone(), classes(&dev, of)));
        y.as_vec().chunks(256).map(bits).collect::<Vec<_>>()
    };
    let told = draw([Some(3), None, Some(3)]);
    let none: Vec<_> = net.forward((x.clone(), t.clone())).as_vec();
    let none: Vec<_> = none.chunks(256).map(bits).collect();
    assert_eq!(told[1], none[1]);
    assert!(told[0] != none[0] && told[2] != none[2]);
    let others = draw([Some(3), Some(4), Some(5)]);
    assert_eq!(others[0], told[0]);
    assert!(others[1] != told[1] && others[2] != told[2]);
}

/// What is added to the embedding of the timestep is as a bias of its last layer, whose gradient is tested
/// against PyTorch's.
#[test]
fn a_class_is_a_bias_of_the_timesteps_embedding() {
    let dev = Cpu::seed_from_u64(2);
    let mut net = network(&dev);
    let (x, t) = inputs(&dev);
    let target: Images = dev.sample_normal();
    let pass = |net: &mut Net, told| {
        let input = (x.clone().traced(net.alloc_grads()), t.clone(), told);
        let y = net.try_forward_mut(input).unwrap();
        let output = y.as_vec();
        let grads = (y - target.clone()).square().mean().backward();
        let bias = grads.get(&net.unet.time_embed.2.bias).as_vec();
        (output, grads.get(&net.label_emb).array(), bias)
    };
    let close = |found: &[f32], expected: &[f32]| {
        let largest = expected.iter().fold(1e-6f32, |most, v| most.max(v.abs()));
        for (found, expected) in found.iter().zip(expected) {
            let error = (found - expected).abs() / largest;
            assert!(error < 1e-4, "{found} for {expected}");
        }
    };
    let told = classes(&dev, [Some(7); 3]);
    let (output, rows, bias) = pass(&mut net, told);
    close(&rows[7], &bias);
    // Of images of several classes each row has its images', and nothing of those of no class.
    let (_, apart, bias) = pass(&mut net, classes(&dev, [Some(2), Some(7), Some(2)]));
    let sum: Vec<f32> = (0..64).map(|i| apart[2][i] + apart[7][i]).collect();
    close(&sum, &bias);
    for (class, row) in apart.iter().enumerate() {
        let is_told = [2, 7].contains(&class);
        assert_eq!(row.iter().any(|&g| g != 0.0), is_told, "class {class}");
    }
    let (_, untold, _) = pass(&mut net, classes(&dev, [None; 3]));
    assert_eq!(untold, [[0.0; 64]; 10]);

    let shift = net.label_emb.array()[7];
    let bias = net.unet.time_embed.2.bias.array();
    let shifted: Vec<f32> = bias.iter().zip(shift).map(|(b, s)| b + s).collect();
    net.unet.time_embed.2.bias.copy_from(&shifted);
    let (shifted, ..) = pass(&mut net, classes(&dev, [None; 3]));
    close(&output, &shifted);
}

#[test]
fn drop_rates_and_costs_are_the_u_nets() {
    let dev = Cpu::default();
    fn paths(net: &mut dyn VisitLayers) -> Vec<String> {
        let mut paths = Vec::new();
        net.visit_sparse(&mut |layer| paths.push(layer.path.to_owned()));
        paths
    }
    let of_unet = paths(&mut dev.build_module::<MnistUNet, f32>());
    assert_eq!(paths(&mut network(&dev)), of_unet);
    assert!(!of_unet.is_empty());
    let cost = ModelCost::of::<Net>([1, 32, 32]).unwrap();
    let expected = ModelCost::of::<modules::MnistUNet<1, f32, Cpu>>([1, 32, 32]).unwrap();
    let flops = |cost: &ModelCost| cost.per_epoch(10, 5, DropRate::new(0.8).unwrap());
    assert_eq!(flops(&cost), flops(&expected));
}

#[test]
fn the_larger_u_net_is_told_classes_too() {
    let dev = Cpu::seed_from_u64(3);
    let mut net = dev.build_module::<ClassConditional<CelebAUNet, 2, 512>, f32>();
    net.label_emb.fill_with_distr(rand_distr::StandardNormal);
    let x: Tensor<Rank4<1, 3, 8, 8>, f32, _> = dev.sample_normal();
    let t = dev.tensor([5.0]);
    let told = |row| net.forward((x.clone(), t.clone(), dev.tensor([row])));
    let none = net.forward((x.clone(), t.clone())).as_vec();
    assert_eq!(told([0.0, 0.0]).as_vec(), none);
    let [first, second] = [[1.0, 0.0], [0.0, 1.0]].map(|row| told(row).as_vec());
    assert!(first != none && second != none && first != second);
}

/// The embeddings of classes are an input of every block: where they are trained, every block costs.
#[test]
fn blocks_cost_where_only_embeddings_are_trained() {
    ssprop::on_threads(None, || {
        let cost = |trained: &str| {
            let model =
                Cpu::default().build_module::<ClassConditional<MnistUNet<1>, 10, 64>, f32>();
            let groups = ParameterGroups::new().freeze("**").unfreeze(trained);
            let trainer = Trainer::new(model, AdamConfig::adam()).unwrap();
            let mut trainer = trainer.with_parameter_groups(&groups).unwrap();
            let cost = trainer.backward_cost([1, 32, 32]).unwrap();
            (cost.layers.len(), cost.per_iteration(1, DropRate::DENSE))
        };
        let (all, flops) = cost("**");
        for embedding in ["label_emb", "time_embed"] {
            let (layers, frozen) = cost(embedding);
            assert_eq!((layers, frozen), (all, flops / 2.0), "{embedding}");
        }
        let (out, _) = cost("out");
        assert_eq!(out, 1);
    })
    .unwrap();
}
