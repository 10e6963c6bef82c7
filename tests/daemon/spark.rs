//! One hour of real flights through real Spark, unchanged script included.
