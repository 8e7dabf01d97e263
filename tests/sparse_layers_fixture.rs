//! Sparse convolutions against numbers computed with PyTorch (`fixtures/sparse_layers.*`).
//!
//! For each case of the JSON the safetensors hold x, weight, bias, y, the incoming gradient dy, the
//! channels that are kept (the max(int(keep * C_out), 1) largest of mean |dy|) and the dense
//! gradients of dy with the other channels zeroed.

mod support;

use std::path::PathBuf;

use dfdx::prelude::Cpu;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use ssprop::ops::Backward;
use ssprop::sparsity::{DropRate, Masking};
use ssprop::Backend;
use support::{assert_close, Case, Conv, Geometry, Real};

/// Cases of other layers.
const NOT_YET: [&str; 2] = ["linear_a", "linear_b"];

fn read(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
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
        assert_eq!(view.dtype(), Dtype::F32);
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
        assert_eq!(view.dtype(), Dtype::I64);
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
        let op = shape.op;
        let typed = [
            shape.c_in,
            shape.c_out,
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
                false => vec![E::zero(); shape.c_out],
            },
            dy: self.floats("dy"),
        };
        let drop_rate = DropRate::from_keep(self.case["keep"].as_f64().unwrap()).unwrap();
        let backward = Backward {
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
            ..Backward::default()
        };
        if backward.masking == Masking::Channels {
            let kept = G::kept(&case, backward).unwrap_or_else(|| (0..shape.c_out).collect());
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
}

#[test]
fn convolutions_agree_with_pytorch() {
    let (json, bytes) = (
        read("sparse_layers.json"),
        read("sparse_layers.safetensors"),
    );
    let cases: Vec<Value> = serde_json::from_slice(&json).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();

    let (mut run, mut skipped) = (0, 0);
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
                    name if NOT_YET.contains(&name) => skipped += 1,
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
    assert_eq!((run, skipped), (13, NOT_YET.len()));
}
