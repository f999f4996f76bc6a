// The contract's own messages and enums, as generated from proto/.

export * from "./generated/rtrelay/v1/content.js";
export * from "./generated/rtrelay/v1/errors.js";
export * from "./generated/rtrelay/v1/relay.js";
// Each of the three has its own; one will do.
export {
  type DeepPartial,
  type MessageFns,
  protobufFileName,
  protobufPackage,
} from "./generated/rtrelay/v1/relay.js";
