// One auction of a page: configures Prebid, asks for bids, and says what came.
async ({ config, unit, timeout }) => {
  pbjs.setConfig(config);
  const failed = [];
  pbjs.onEvent("bidRejected", (bid) => failed.push(String(bid.rejectionReason)));
  const timedOut = await new Promise((done) =>
    pbjs.requestBids({ adUnits: [unit], timeout, bidsBackHandler: (_bids, late) => done(late) }),
  );
  const { bids } = pbjs.getBidResponsesForAdUnitCode(unit.code);
  const told = ["adId", "bidderCode", "cpm", "currency", "width", "height", "creativeId", "mediaType", "ttl", "ad", "native", "meta"];
  return { timedOut, failed, bids: bids.map((bid) => Object.fromEntries(told.map((name) => [name, bid[name]]))) };
};
