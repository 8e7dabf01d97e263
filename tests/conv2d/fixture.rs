//! Sparse convolutions and linear layers against numbers computed with PyTorch
//! (`fixtures/sparse_layers.*`).
//!
//! For each case of the JSON the safetensors hold x, weight, bias, y, the incoming gradient dy, the
//! channels that are kept (the max(int(keep * C_out), 1) largest of mean |dy|) and the dense
//! gradients of dy with the other channels zeroed. Some cases mask positions or elements instead, or
//! take dx from the whole of dy; linear ones rank features by the sum of |dy|.

use std::path::PathBuf;

use ::safetensors::{Dtype as FileDtype, SafeTensors};
use dfdx::prelude::*;
use serde_json::Value;

use ssprop::nn::modules::SparseLinear;
use ssprop::nn::VisitLayers;
use ssprop::ops::SparseBackward;
use ssprop::sparsity::{DropRate, Masking};
use ssprop::Backend;
use support::{assert_close, Case, Conv, Geometry, Real};

fn read(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    std::fs::read(path.join(name)).unwrap()
}

struct Fixture<'a> {
    case: &'a Value,
    tensors: &'a SafeTensors<'a>,
}

impl Fixture<'_> {
    fn name(&self) -> &str {
        self.case["name"].as_str().unwrap()
    }

    fn size(&self, key: &str) -> usize {
        match &self.case[key] {
            Value::Null if key == "groups" => 1,
            size => size.as_u64().unwrap() as usize,
        }
    }

    fn floats<E: Real>(&self, tensor: &str) -> Vec<E> {
        let view = self
            .tensors
            .tensor(&format!("{}.{tensor}", self.name()))
            .unwrap();
        assert_eq!(view.dtype(), FileDtype::F32);
        let floats = view
            .data()
            .chunks(4)
            .map(|b| f32::from_le_bytes(b.try_into().unwrap()));
        floats.map(|x| E::from_f32(x).unwrap()).collect()
    }

    fn kept(&self) -> Vec<usize> {
        let view = self
            .tensors
            .tensor(&format!("{}.kept", self.name()))
            .unwrap();
        assert_eq!(view.dtype(), FileDtype::I64);
        let indices = view
            .data()
            .chunks(8)
            .map(|b| i64::from_le_bytes(b.try_into().unwrap()));
        indices.map(|i| i as usize).collect()
    }

    fn check<G: Geometry, E: Real>(&self, tolerance: f64)
    where
        Cpu: Backend<E>,
    {
        let shape = G::shape(self.size("batch"), self.size("h"), self.size("w"));
        let op = shape.op();
        let typed = [
            shape.c_in(),
            shape.c_out(),
            op.kernel,
            op.stride,
            op.padding,
            op.dilation,
        ];
        let keys = ["c_in", "c_out", "kernel", "stride", "padding", "dilation"];
        assert_eq!(typed, keys.map(|key| self.size(key)));
        assert_eq!(op.groups, self.size("groups"));

        let has_bias = self.case["bias"].as_bool().unwrap();
        let case = Case::<E> {
            shape,
            x: self.floats("x"),
            weight: self.floats("weight"),
            bias: match has_bias {
                true => self.floats("bias"),
                false => vec![E::zero(); shape.c_out()],
            },
            dy: self.floats("dy"),
        };
        let drop_rate = DropRate::from_keep(self.case["keep"].as_f64().unwrap()).unwrap();
        let backward = SparseBackward {
            drop_rate,
            masking: match self.case["masking"].as_str().unwrap() {
                "channel" => Masking::Channels,
                "drop_h_w" => Masking::Positions,
                "drop_ch_h_w" => Masking::Elements,
                other => panic!("masking {other}"),
            },
            only_weight_sparse: self.case["only_weight_grad_sparse"]
                .as_bool()
                .unwrap_or(false),
            ..SparseBackward::default()
        };
        if backward.masking == Masking::Channels {
            let kept = G::kept(&case, backward).unwrap_or_else(|| (0..shape.c_out()).collect());
            assert_eq!(kept, self.kept(), "{}: kept channels", self.name());
        }

        let pass = G::pass(&case, backward);
        let of = |what: &str| format!("{}: {what}", self.name());
        assert_close(&pass.y, &self.floats::<E>("y"), tolerance, &of("y"));
        assert_close(&pass.dx, &self.floats::<E>("dx"), tolerance, &of("dX"));
        assert_close(&pass.dw, &self.floats::<E>("dweight"), tolerance, &of("dW"));
        if has_bias {
            assert_close(&pass.db, &self.floats::<E>("dbias"), tolerance, &of("db"));
        }
    }

    fn check_linear<const I: usize, const O: usize, E: Real>(&self, tolerance: f64)
    where
        Cpu: Backend<E>,
    {
        let batch = self.size("batch");
        assert_eq!(
            [I, O],
            [self.size("in_features"), self.size("out_features")]
        );
        let dev = Cpu::default();
        let features = (Const::<O>, Const::<I>);
        let mut layer: SparseLinear<I, O, E, Cpu> = SparseLinear {
            weight: dev.tensor_from_vec(self.floats("weight"), features),
            bias: dev.tensor_from_vec(self.floats("bias"), (Const::<O>,)),
            backward: SparseBackward::default(),
            kept_count: None,
        };
        layer.set_drop_rate(DropRate::from_keep(self.case["keep"].as_f64().unwrap()).unwrap());
        let x = dev.tensor_from_vec(self.floats("x"), (batch, Const::<I>));
        let dy = dev.tensor_from_vec(self.floats("dy"), (batch, Const::<O>));

        let y = layer.forward(x.leaky_trace());
        let of = |what: &str| format!("{}: {what}", self.name());
        assert_close(&y.as_vec(), &self.floats::<E>("y"), tolerance, &of("y"));
        let grads = (y * dy).sum().backward();
        let expected = self.floats::<E>("dweight");
        for (what, found, expected) in [
            ("dX", grads.get(&x).as_vec(), self.floats::<E>("dx")),
            ("dW", grads.get(&layer.weight).as_vec(), expected.clone()),
            (
                "db",
                grads.get(&layer.bias).as_vec(),
                self.floats::<E>("dbias"),
            ),
        ] {
            assert_close(&found, &expected, tolerance, &of(what));
        }
        // Dropped rows are zero, not just small.
        let dw = grads.get(&layer.weight).as_vec();
        for (found, expected) in dw.chunks(I).zip(expected.chunks(I)) {
            let dropped = |row: &[E]| row.iter().all(|g| g.is_zero());
            assert_eq!(dropped(found), dropped(expected), "{}", self.name());
        }
    }
}

#[test]
fn layers_agree_with_pytorch() {
    let (json, bytes) = (
        read("sparse_layers.json"),
        read("sparse_layers.safetensors"),
    );
    let cases: Vec<Value> = serde_json::from_slice(&json).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();

    let mut run = 0;
    for case in &cases {
        let fixture = Fixture {
            case,
            tensors: &tensors,
        };
        macro_rules! run {
            ($($name:literal: $geometry:ty;)*) => {
                match fixture.name() {
                    $($name => {
                        // The numbers are float32's, whatever we compute in.
                        fixture.check::<$geometry, f32>(2e-6);
                        fixture.check::<$geometry, f64>(1e-6);
                        run += 1;
                    })*
                    "linear_a" => {
                        fixture.check_linear::<6, 10, f32>(2e-6);
                        fixture.check_linear::<6, 10, f64>(1e-6);
                        run += 1;
                    }
                    "linear_b" => {
                        fixture.check_linear::<9, 7, f32>(2e-6);
                        fixture.check_linear::<9, 7, f64>(1e-6);
                        run += 1;
                    }
                    name => panic!("no test for the case {name}"),
                }
            };
        }
        run!(
            "k3s1p1": Conv<5, 10, 3, 1, 1, 1, 1>;
            "k3s2p1": Conv<4, 13, 3, 2, 1, 1, 1>;
            "k1s1p0": Conv<8, 16, 1, 1, 0, 1, 1>;
            "k1s2p0": Conv<6, 12, 1, 2, 0, 1, 1>;
            "k5s3p2": Conv<3, 7, 5, 3, 2, 1, 1>;
            "k3s1p0_keep_one": Conv<2, 4, 3, 1, 0, 1, 1>;
            "k3s1p1_dense": Conv<3, 6, 3, 1, 1, 1, 1>;
            "only_weight": Conv<4, 10, 3, 1, 1, 1, 1>;
            "mask_hw": Conv<4, 10, 3, 1, 1, 1, 1>;
            "mask_all": Conv<4, 10, 3, 1, 1, 1, 1>;
            "dilated": Conv<4, 9, 3, 1, 2, 2, 1>;
            "grouped": Conv<6, 12, 3, 1, 1, 1, 3>;
            "depthwise_s2": Conv<8, 8, 3, 2, 1, 1, 8>;
        );
    }
    assert_eq!(run, 15);
    assert_eq!(cases.len(), 15);
}
