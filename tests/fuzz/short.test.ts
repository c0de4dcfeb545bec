/*
 * The fuzz targets as `npm test` runs them: the same properties, few cases, one seed (see fuzz.ts). Together, for the keys that they share
 * cost more than the cases.
 */
import "../second-opinion/second-opinion.fuzz.ts";
import "./form.fuzz.ts";
import "./gate.fuzz.ts";
import "./json.fuzz.ts";
import "./key-intake.fuzz.ts";
