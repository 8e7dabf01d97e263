//! Functions that are generic for their callers, and compiled here.

/// Defines functions, generic over the element type, that are compiled for `f32` and `f64` in this crate
/// and in no other: a caller that is not optimised gets calls, and no loops of its own.
macro_rules! concrete {
    ($(
        $(#[$meta:meta])*
        pub fn $name:ident<$E:ident: $Bound:ident>($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block
    )*) => {$(
        // A function and a trait may have one name.
        #[doc(hidden)]
        #[allow(non_camel_case_types)]
        pub trait $name<$E> {
            #[allow(clippy::too_many_arguments)]
            fn run($($arg: $ty),*) $(-> $ret)?;
        }
        const _: () = {
            #[allow(clippy::too_many_arguments)]
            fn body<$E: $Bound>($($arg: $ty),*) $(-> $ret)? $body
            const _: () = {
                type $E = f32;
                impl $name<f32> for () {
                    fn run($($arg: $ty),*) $(-> $ret)? {
                        body::<f32>($($arg),*)
                    }
                }
            };
            const _: () = {
                type $E = f64;
                impl $name<f64> for () {
                    fn run($($arg: $ty),*) $(-> $ret)? {
                        body::<f64>($($arg),*)
                    }
                }
            };
        };

        $(#[$meta])*
        #[inline]
        #[allow(clippy::too_many_arguments)]
        pub fn $name<$E: $Bound>($($arg: $ty),*) $(-> $ret)?
        where
            (): $name<$E>,
        {
            <() as $name<$E>>::run($($arg),*)
        }
    )*};
}
pub(crate) use concrete;
