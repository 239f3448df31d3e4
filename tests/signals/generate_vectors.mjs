// Makes vectors/iab.json with IAB's own libraries: they encode, and they decode what is then expected of our decoders.
// None of their code is kept. See README.md beside this file for how to run it. The output is the same every time.
import { createRequire } from "node:module";
import { join } from "node:path";

const require = createRequire(join(process.cwd(), "anywhere.js"));
const { GVL, PurposeRestriction, TCModel, TCString } = require("@iabtcf/core");
const { GppModel, RangeEntry, Sections } = require("@iabgpp/cmpapi");
const versions = Object.fromEntries(
  ["@iabtcf/core", "@iabgpp/cmpapi"].map((name) => [
    name,
    JSON.parse(require("node:fs").readFileSync(`node_modules/${name}/package.json`, "utf8")).version,
  ]),
);

let state = 20261122; // xorshift32: the same vectors every time
const random = (below) => {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return (state >>> 0) % below;
};
const coin = (share = 50) => random(100) < share;
const some = (numbers, share) => numbers.filter(() => coin(share));
const upTo = (last) => Array.from({ length: last }, (_, index) => index + 1);
const PURPOSES = upTo(11);
const LAWFUL_INTEREST = [2, 7, 8, 9, 10, 11];
const DAY = 86_400_000;
const day = () => new Date(Date.UTC(2026, 2 + random(8), 1 + random(20)));

// A vendor list of our own making: every vendor declares every purpose, so that the encoder removes nothing.
const vendor = (id) => ({
  id, name: `Vendor ${id}`, purposes: PURPOSES, legIntPurposes: LAWFUL_INTEREST, flexiblePurposes: LAWFUL_INTEREST,
  specialPurposes: [], features: [], specialFeatures: [], policyUrl: "https://vendor.example/",
});
const named = (ids) => Object.fromEntries(ids.map((id) => [id, { id, name: `${id}`, description: "", descriptionLegal: "" }]));
const vendorList = (ids, policyVersion) => new GVL({
  gvlSpecificationVersion: 3, vendorListVersion: 1 + random(400), tcfPolicyVersion: policyVersion, lastUpdated: "2026-01-01T00:00:00Z",
  purposes: named(PURPOSES), specialPurposes: named([1, 2]), features: named([1, 2, 3]), specialFeatures: named([1, 2]),
  stacks: {}, vendors: Object.fromEntries(ids.map((id) => [id, vendor(id)])),
});

const ranges = (ids) => {
  const found = [];
  for (const id of [...ids].sort((a, b) => a - b)) {
    const last = found.at(-1);
    if (last && last[1] + 1 === id) last[1] = id;
    else found.push([id, id]);
  }
  return found;
};
const seconds = (date) => Math.round(date.getTime() / 100) / 10;
const vendorIds = () => {
  const shape = random(4);
  if (shape === 0) return [];
  if (shape === 1) return some(upTo(1 + random(60)), 50);
  if (shape === 2) return upTo(20 + random(900));
  return some(upTo(1 + random(1500)), 2);
};

function withCore(index) {
  const policyVersion = index % 3 ? 5 : 4;
  const model = new TCModel(vendorList(upTo(1500), policyVersion));
  model.cmpId = 2 + random(4000);
  model.cmpVersion = random(4000);
  model.consentScreen = random(60);
  model.isServiceSpecific = true;
  model.publisherCountryCode = ["DE", "FR", "ZZ", "AA"][random(4)];
  model.purposeOneTreatment = coin(5);
  model.specialFeatureOptins.set(some([1, 2], 50));
  model.purposeConsents.set(index % 10 ? some(PURPOSES, 85) : PURPOSES);
  model.purposeLegitimateInterests.set(some(LAWFUL_INTEREST, 50));
  model.vendorConsents.set(vendorIds());
  model.vendorLegitimateInterests.set(vendorIds());
  for (const purpose of index % 4 === 0 ? some([2, 4, 7, 9, 10], 40) : [])
    for (const id of vendorIds().slice(0, 30)) {
      const restriction = new PurposeRestriction();
      restriction.purposeId = purpose;
      restriction.restrictionType = random(2);
      model.publisherRestrictions.add(id, restriction);
    }
  model.created = model.lastUpdated = day();
  const text = TCString.encode(model);
  const read = TCString.decode(text);
  const restrictions = read.publisherRestrictions.getRestrictions().map((entry) => [
    entry.purposeId, entry.restrictionType, ranges(read.publisherRestrictions.getVendors(entry)),
  ]);
  const ids = (vector) => [...vector].filter(([, value]) => value).map(([id]) => id);
  return {
    source: "@iabtcf/core", kind: "tcf", text,
    tcf: {
      created: seconds(read.created), last_updated: seconds(read.lastUpdated), cmp_id: read.cmpId, cmp_version: read.cmpVersion,
      language: read.consentLanguage, vendor_list_version: read.vendorListVersion, policy_version: read.policyVersion,
      purposes: ids(read.purposeConsents), purpose_one_undisclosed: read.purposeOneTreatment,
      publisher_country: read.publisherCountryCode, vendors: ranges(ids(read.vendorConsents)), restrictions, disclosed: null,
    },
  };
}

const bools = (ids, count) => upTo(count).map((id) => ids.includes(id));
function setTcf(model) {
  const set = (field, value) => model.setFieldValue("tcfeuv2", field, value);
  set("CmpId", 2 + random(4000));
  set("CmpVersion", random(4000));
  set("VendorListVersion", 1 + random(400));
  set("PolicyVersion", 4 + random(2));
  set("PublisherCountryCode", ["DE", "FR", "ZZ"][random(3)]);
  set("PurposeConsents", bools(some(PURPOSES, 85), 24));
  set("PurposeLegitimateInterests", bools(some(LAWFUL_INTEREST, 50), 24));
  set("VendorConsents", vendorIds());
  set("VendorLegitimateInterests", vendorIds());
  set("VendorsDisclosed", vendorIds());
  if (coin(30)) set("PublisherRestrictions", some([2, 4, 7, 9, 10], 50).map((purpose) => new RangeEntry(purpose, random(3), [1 + random(50), 60 + random(50)])));
  set("Created", day());
}
function expectTcf(read) {
  const positions = (values) => values.flatMap((value, index) => (value ? [index + 1] : []));
  return {
    created: seconds(read.Created), last_updated: seconds(read.LastUpdated), cmp_id: read.CmpId, cmp_version: read.CmpVersion,
    language: read.ConsentLanguage, vendor_list_version: read.VendorListVersion, policy_version: read.PolicyVersion,
    purposes: positions(read.PurposeConsents), purpose_one_undisclosed: read.PurposeOneTreatment,
    publisher_country: read.PublisherCountryCode, vendors: ranges(read.VendorConsents),
    restrictions: read.PublisherRestrictions.map((entry) => [entry.key, entry.type, ranges(entry.ids)]),
    disclosed: ranges(read.VendorsDisclosed),
  };
}

const included = (name) => {
  if (["uspv1", "usva", "usut", "usfl"].includes(name)) return null;
  return ["usin", "usky", "usri"].includes(name) ? "SensitiveDataConsentSegmentIncluded" : "GpcSegmentIncluded";
};
function setUs(model, name) {
  if (name === "uspv1") {
    for (const field of ["Notice", "OptOutSale", "LspaCovered"]) model.setFieldValue(name, field, "YN-"[random(3)]);
    return;
  }
  const probe = new GppModel();
  const version = name === "usnat" ? 1 + random(2) : 1;
  const versioned = name === "usmd" || name === "usin" || name === "usky" || name === "usri" ? "MspaVersion" : "Version";
  probe.setFieldValue(name, versioned, version);
  model.setFieldValue(name, versioned, version);
  const answer = () => (coin(70) ? 2 : random(3));
  for (const [field, value] of Object.entries(probe.getSection(name))) {
    if (field === versioned || field === "GpcSegmentType" || field === "SubsectionType") continue;
    if (Array.isArray(value)) model.setFieldValue(name, field, value.map(answer));
    else if (field === "MspaCoveredTransaction") model.setFieldValue(name, field, 1 + random(2));
    else if (typeof value === "boolean") model.setFieldValue(name, field, coin(30));
    else if (field.endsWith("Notice")) model.setFieldValue(name, field, coin(85) ? 1 : random(3));
    else if (typeof value === "number") model.setFieldValue(name, field, answer());
  }
  const extra = included(name);
  if (extra) model.setFieldValue(name, extra, coin());
}
const US = [...Sections.SECTION_ID_NAME_MAP].filter(([id]) => id >= 6).map(([, name]) => name);
function withCmpApi(names) {
  const model = new GppModel();
  for (const name of names) name === "tcfeuv2" ? setTcf(model) : setUs(model, name);
  const text = model.encode();
  const read = new GppModel(text);
  const sections = {};
  for (const name of names) {
    const found = read.getSection(name);
    sections[name] = name === "tcfeuv2" ? expectTcf(found) : { ...found };
    if (name !== "tcfeuv2" && included(name)) sections[name][included(name)] = read.getFieldValue(name, included(name));
  }
  return { source: "@iabgpp/cmpapi", kind: "gpp", text, sections };
}

const vectors = [];
for (let index = 0; index < 120; index++) vectors.push(withCore(index));
for (let index = 0; index < 80; index++) vectors.push(withCmpApi(["tcfeuv2"]));
for (const name of US) for (let index = 0; index < (name === "usnat" ? 24 : 8); index++) vectors.push(withCmpApi([name]));
for (let index = 0; index < 60; index++) {
  const names = some(["tcfeuv2", ...US], 15);
  if (names.length) vectors.push(withCmpApi(names));
}
const lines = vectors.map((vector) => JSON.stringify(vector)).join(",\n");
console.log(`{"made_with":${JSON.stringify(versions)},"vectors":[\n${lines}\n]}`);
