//! Owns the JSON form of verbs: one object that names its verb in a member `op`, beside the members of the verb.
//!
//! Serde reads and writes the same form by itself, but then with code for each verb that is several times as long as for
//! `{"verb":{members}}`, which is the form that derived code has here.

use serde::de::value::MapDeserializer;
use serde::de::{EnumAccess, Error as _, IntoDeserializer as _, MapAccess, VariantAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, forward_to_deserialize_any};
use serde_json::{Error, Value};
use std::fmt::{self, Formatter};

/// The member that names the verb.
const OP: &str = "op";

/// The members of an object in their order; a member that is given twice stands there twice.
pub(crate) struct Members(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Members;

            fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

impl Members {
    /// Reads the verb that the members make, one of the variants of `T`.
    ///
    /// # Errors
    /// Serde's text: the verb is missing or unknown; a member is missing, unknown, given twice, or has the wrong type.
    pub(crate) fn read<'de, T: Deserialize<'de>>(&'de self) -> Result<T, Error> {
        let mut verbs = self.0.iter().filter(|(key, _)| key == OP);
        let (_, verb) = verbs.next().ok_or_else(|| Error::missing_field(OP))?;
        if verbs.next().is_some() {
            return Err(Error::duplicate_field(OP));
        }
        T::deserialize(Verb { name: <&str>::deserialize(verb)?, members: self.others() })
    }

    /// The members that do not name a verb.
    fn others(&self) -> Others<'_> {
        Others(self.0.iter())
    }

    /// The error of [`Members::read`] in words that name the verb and the member at fault. Serde names a member that is
    /// missing or unknown, but not one with a wrong value, which is found as the member that alone causes the same error.
    pub(crate) fn explain<T: for<'de> Deserialize<'de>>(&self, error: &Error) -> String {
        let text = error.to_string();
        let Some((_, verb)) = self.0.iter().rfind(|(key, _)| key == OP) else { return text };
        let Some(name) = verb.as_str() else { return format!("{OP}: {text}") };
        if text.starts_with(&format!("unknown variant `{name}`")) {
            return format!("unknown operation {name:?}");
        }
        for (key, value) in self.0.iter().filter(|(key, _)| key != OP) {
            let alone = Self(vec![(OP.into(), verb.clone()), (key.clone(), value.clone())]);
            if alone.read::<T>().is_err_and(|e| text == e.to_string()) {
                return format!("{name}: {key}: {text}");
            }
        }
        format!("{name}: {text}")
    }
}

/// Writes a verb on one line.
pub(crate) fn write(verb: &impl Serialize) -> String {
    let json = serde_json::to_string(verb);
    debug_assert!(json.is_ok(), "strings, numbers and lists of them can always be written");
    let json = json.unwrap_or_default();
    // Derived code writes a verb as `"name"` or as `{"name":{members}}`.
    let members = json.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')?.split_once(":{"));
    match members {
        None => format!("{{\"{OP}\":{json}}}"),
        Some((name, "}")) => format!("{{\"{OP}\":{name}}}"),
        Some((name, members)) => format!("{{\"{OP}\":{name},{members}"),
    }
}

/// A verb's members as serde reads them: by reference, for which derived code is shorter than for values that it must drop.
struct Others<'de>(std::slice::Iter<'de, (String, Value)>);

impl<'de> Iterator for Others<'de> {
    type Item = (&'de str, &'de Value);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.by_ref().find(|(key, _)| key != OP).map(|(key, value)| (key.as_str(), value))
    }
}

/// A verb's name and its members, as serde reads a variant.
struct Verb<'de> {
    name: &'de str,
    members: Others<'de>,
}

impl<'de> Deserializer<'de> for Verb<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_enum(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct newtype_struct
        seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl<'de> EnumAccess<'de> for Verb<'de> {
    type Error = Error;
    type Variant = Others<'de>;

    fn variant_seed<S: serde::de::DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Others<'de>), Error> {
        Ok((seed.deserialize(self.name.into_deserializer())?, self.members))
    }
}

impl<'de> Deserializer<'de> for Others<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_map(MapDeserializer::new(self))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct newtype_struct
        seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl<'de> VariantAccess<'de> for Others<'de> {
    type Error = Error;

    fn unit_variant(mut self) -> Result<(), Error> {
        match self.next() {
            None => Ok(()),
            Some((key, _)) => Err(Error::custom(format_args!("unknown field `{key}`, there are no fields"))),
        }
    }

    fn newtype_variant_seed<S: serde::de::DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Error> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_any(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], visitor: V) -> Result<V::Value, Error> {
        self.deserialize_any(visitor)
    }
}
