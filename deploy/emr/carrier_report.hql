-- The carrier report: flights, cancellations, delays and wind by airline and
-- airport, from the rows that daily_report.py joined. One row per carrier and
-- origin, as Parquet; the output folder is overwritten, so it can run again.
--
--   hive -f carrier_report.hql --hivevar INPUT=s3://… --hivevar OUTPUT=s3://…
--
-- Written for Hive 3 and for spark-sql alike. The table is external: dropping it
-- leaves the data alone. Parquet columns are found by name, so only those that
-- are used here are declared.

DROP TABLE IF EXISTS carrier_report_input;

CREATE EXTERNAL TABLE carrier_report_input (
  carrier STRING,
  airline STRING,
  origin STRING,
  dep_time INT,
  dep_delay INT,
  arr_delay INT,
  wind_speed DOUBLE,
  seats INT
)
STORED AS PARQUET
LOCATION '${hivevar:INPUT}';

INSERT OVERWRITE DIRECTORY '${hivevar:OUTPUT}'
STORED AS PARQUET
SELECT
  carrier,
  airline,
  origin,
  COUNT(*) AS flights,
  SUM(CASE WHEN dep_time IS NULL THEN 1 ELSE 0 END) AS cancelled,
  SUM(CASE WHEN dep_delay >= 15 THEN 1 ELSE 0 END) AS departed_late,
  AVG(dep_delay) AS dep_delay_avg,
  AVG(arr_delay) AS arr_delay_avg,
  AVG(wind_speed) AS wind_speed_avg,
  SUM(seats) AS seats
FROM carrier_report_input
GROUP BY carrier, airline, origin;

DROP TABLE carrier_report_input;
