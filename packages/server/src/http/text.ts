import { z } from "zod";

const CONTROL = /[\u0000-\u001f\u007f-\u009f]/;

/** One line of text, of whatever else. */
export const text = (charactersMax: number) =>
  z
    .string()
    .max(charactersMax, `is over ${charactersMax} characters`)
    .refine((value) => !CONTROL.test(value), "has a control character");
